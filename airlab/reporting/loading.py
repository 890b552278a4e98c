"""How other programs read an exported folder: the lines that their configurations need, for its card."""

import json
from collections.abc import Mapping
from typing import Any

_DATASET = """\
```python
import datasets

data = datasets.load_from_disk("FOLDER")
```

A hub takes the folder as it is (`hf upload --repo-type dataset OWNER/NAME FOLDER`)."""

_TORCHTITAN = """\
torchtitan tokenizes while it trains. In a configuration of its registry:

```python
from torchtitan.components.data import (
    ConcatThenSplitPackingConfig,
    GrainDataLoader,
    IndexedJsonlSource,
    SingleDatasetConfig,
)
from torchtitan.hf_datasets.text_datasets import TextProcessor

config.dataloader = GrainDataLoader.Config(
    dataset=ConcatThenSplitPackingConfig(
        dataset=SingleDatasetConfig(
            source=IndexedJsonlSource.Config(patterns=("FOLDER/documents.jsonl",)),
            processor=TextProcessor.Config({text_fn}),
            post_filters=(lambda sample: sample is not None,),
        ),
    ),
)
```"""

_NANOGPT = """\
Put the folder into nanoGPT's `data/` and name it: `python train.py --dataset=NAME`. `train.bin` and `val.bin`
hold {dtype} ids, `meta.pkl` the vocabulary's size ({vocabulary_size:,}), with which it trains from scratch.
Its `sample.py` asks `meta.pkl` for a table of characters too, which this tokenizer does not have. Documents
end with token {eos_token_id}; `documents.parquet` says where each lies, `meta.json` how many tokens."""

_OLMO = """\
`part-*.npy` hold bare {dtype} ids without a header, `part-*.csv.gz` the first token of each document and the
one after its last; `documents.parquet` says which document that is, `meta.json` how many tokens there are.

```python
from olmo_core.data import NumpyDatasetDType, NumpyFSLDatasetConfig, TokenizerConfig

dataset = NumpyFSLDatasetConfig(
    paths=["FOLDER/part-*.npy"],
    expand_glob=True,
    dtype=NumpyDatasetDType.{dtype},
    tokenizer=TokenizerConfig(
        vocab_size={vocabulary_size},
        eos_token_id={eos_token_id},
        pad_token_id={eos_token_id},
        bos_token_id={bos_token_id},
    ),
    sequence_length=2048,
    work_dir="WORK",
)
```"""


_FORMS = {"dataset": _DATASET, "nanogpt": _NANOGPT, "olmo": _OLMO}


def loading(form: str, facts: Mapping[str, Any]) -> str:
    """Markdown for one of the formats of folders.

    Args:
        facts: what the writer of token files returned; of torchtitan, which column is the `text`.
    """
    if form == "torchtitan":
        name = facts["text"]
        text_fn = "" if name == "text" else f"text_fn=lambda record: record[{json.dumps(name)}]"
        return _TORCHTITAN.replace("{text_fn}", text_fn)
    return _FORMS[form].format(**facts)
