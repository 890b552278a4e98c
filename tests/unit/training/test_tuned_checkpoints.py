"""What was pretrained or fine-tuned here can be fine-tuned, as any model can."""

from dataclasses import replace
from pathlib import Path

import pytest

from airlab.errors import UserError
from airlab.models.load import load_causal_lm, load_tokenizer
from airlab.schema.fine_tuning import FineTuning
from airlab.schema.mixture import MixtureSpec
from airlab.schema.traces import Rendering, Segmentation
from airlab.schema.training import Training
from airlab.stages.build_mixture import BuildMixture, TokenizeCorpus
from airlab.stages.build_training import BuildTraining
from airlab.stages.fine_tune import FineTune
from airlab.stages.pretrain import Pretrain
from airlab.stages.train_tokenizer import TrainTokenizer
from airlab.store.stage import Stage
from airlab.training.trace_data import TraceData
from tests.unit.training.made_training import MadeTraces, built
from tests.unit.training.test_training_stages import TINY, SmallCorpus

CONTEXT = 128
SHAPE = TINY.model_copy(update={"context": CONTEXT})
RECIPE = FineTuning(epochs=1, batch_sequences=4, learning_rate=1e-3)


def pretrained() -> Pretrain:
    corpus = SmallCorpus()
    tokenizer = TrainTokenizer(corpus, 280)
    budget = CONTEXT * 2 * 3
    mixture = BuildMixture(
        TokenizeCorpus(corpus, tokenizer), None, MixtureSpec(), budget_tokens=budget, context=CONTEXT, seed=0
    )
    return Pretrain(
        mixture, tokenizer, SHAPE, Training(budget_tokens=budget, batch_sequences=2, learning_rate=1e-2), 0
    )


def traces_for(model: Stage) -> BuildTraining:
    plain = Rendering(template="plain", separator=" ")
    return BuildTraining(model, MadeTraces(), plain, Segmentation(), None, None, CONTEXT, "refuse")


def test_fine_tuning_goes_on_from_pretraining_and_from_fine_tuning(tmp_path: Path) -> None:
    first = pretrained()
    second = FineTune(first, traces_for(first), RECIPE, 0, None)
    third = FineTune(second, traces_for(second), RECIPE, 1, None)
    folders = [built(stage, tmp_path) for stage in (first, second, third)]
    models = [load_causal_lm(folder) for folder in folders]
    assert len({lm.digest for lm in models}) == 3
    assert len({str(lm.geometry) for lm in models}) == 1
    assert load_tokenizer(folders[2]).get_vocab() == load_tokenizer(folders[0]).get_vocab()
    one, two = (TraceData.open(built(traces_for(model), tmp_path)) for model in (first, second))
    assert one.sha256 == two.sha256, "the tokenizer that was handed on reads otherwise"


def test_a_chat_with_a_model_that_has_no_template_is_refused(tmp_path: Path) -> None:
    chat = replace(traces_for(pretrained()), rendering=Rendering())
    with pytest.raises(UserError, match="template"):
        built(chat, tmp_path)
