"""lm-eval over a saved checkpoint. Imported only in the worker process (`airlab.evaluation.worker`).

The metrics we add to the harness's own, all per item:

- ``bits_per_byte``: negative log-likelihood of the text in bits, over its UTF-8 bytes.
- ``answer_nats``: negative log-likelihood of the right answer in nats, per UTF-8 byte of the answer (so that
  targets with different tokenizers compare); lower is better.
- ``margin``: log-likelihood per byte of the right choice minus that of the best wrong one, in nats.
- ``acc`` of a likelihood task: 1 when greedy decoding would give exactly the answer.
- ``exact_match`` of a problem that the model solved itself: 1 when its solution ends in the right answer
  (`airlab.text.worked.answers.is_right`) before it had to be cut off.
- ``truncated``: 1 when it was cut off at the most tokens allowed.
"""

import contextlib
import math
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import lm_eval
import transformers
from jinja2 import TemplateError
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks.aime.utils import process_results as judge_last_boxed

from airlab.errors import UserError
from airlab.evaluation.reader import Reader
from airlab.evaluation.records import Record
from airlab.evaluation.solver import Solver
from airlab.evaluation.tasks.files import ListedTask, read_rendering, read_tasks
from airlab.evaluation.watching import Tell, silent, watched
from airlab.heads.mask import HeadMask
from airlab.models.device import use_device
from airlab.models.geometry import Geometry
from airlab.models.load import weights_digest
from airlab.models.masked import masked_heads
from airlab.schema.evaluation import METRICS, HarnessSpec, HarnessTask
from airlab.schema.machine import Machine
from airlab.schema.traces import Rendering
from airlab.text.rendering import chat_template
from airlab.text.template_process import Refused, apply_template
from airlab.text.worked.answers import is_right


class HarnessError(RuntimeError):
    """The harness did not do what it was asked; its results must not be used."""


def software_versions() -> dict[str, str]:
    """What decides a result besides weights and items."""
    return {name: version(name) for name in ("lm_eval", "torch", "transformers")}


def load(kind: Callable[..., Any], checkpoint: Path, batch_size: int, device: Literal["cpu", "cuda"]) -> Any:
    """The checkpoint behind lm-eval's model interface, in float32."""
    model: Any = kind(
        pretrained=str(checkpoint.resolve()),
        dtype="float32",
        batch_size=batch_size,
        device=use_device(Machine(device=device)),
        trust_remote_code=False,
        # The cache takes two requests with the same text for one, wherever their answers begin: the final
        # answer of a problem would get the log-likelihood of its last tokens in the worked answer.
        logits_cache=False,
    )
    model.tokenizer.apply_chat_template = partial(_chat_text, model.tokenizer)
    return model


def _asked_by(rendering: Rendering | None) -> Callable[..., Any]:
    """How our own tasks are asked: as texts, or with a rendering as turns of a conversation."""
    return Reader if rendering is None else partial(Solver, rendering)


def _chat_text(tokenizer: Any, turns: list[dict[str, str]], *, tokenize: bool, **settings: Any) -> str:
    """What lm-eval asks of a tokenizer, with a template that cannot compute for ever."""
    assert not tokenize
    try:
        (text,) = apply_template(
            tokenizer.get_chat_template(), [turns], {**tokenizer.special_tokens_map, **settings}
        )
    except Refused as error:  # lm-eval has an answer to this
        raise TemplateError(str(error)) from error
    return text


def masking(model: Any, checkpoint: Path, mask: HeadMask | None) -> AbstractContextManager[None]:
    """A block in which a loaded checkpoint's heads are masked, or none.

    Raises:
        UserError: the heads are another model's.
    """
    if mask is None:
        return contextlib.nullcontext()
    mask.check(Geometry.of(model.model.config), weights_digest(checkpoint))
    return masked_heads(model.model, mask.reference(model.model.device))


def evaluate_local(
    checkpoint: Path,
    tasks: Path,
    *,
    batch_size: int,
    device: Literal["cpu", "cuda"],
    seed: int,
    mask: HeadMask | None,
    tell: Tell = silent,
) -> list[Record]:
    """Records of every task of a tasks folder, in its order; `tell` hears how far it is.

    Raises `UserError` when an item does not fit the model's context (the harness would cut its beginning
    off without failing) and `HarnessError` when items are missing.
    """
    listed = read_tasks(tasks)
    rendering = read_rendering(tasks)
    model = load(_asked_by(rendering), checkpoint, batch_size, device)
    # The YAML names its data relative to its folder, so that the folder can be moved.
    with masking(model, checkpoint, mask), watched(model, tell), contextlib.chdir(tasks):
        manager = TaskManager(include_path=".", include_defaults=False)
        results = lm_eval.simple_evaluate(
            model,
            tasks=[task.name for task in listed],
            task_manager=manager,
            bootstrap_iters=0,
            log_samples=True,
            apply_chat_template=rendering is not None and rendering.template == "chat",
        )
    records: list[Record] = []
    for task in listed:
        samples = sorted(results["samples"].get(task.name, []), key=lambda sample: sample["doc_id"])
        _expect(task.name, task.n_items, len(samples))
        if rendering is None:  # otherwise the model has looked before it began
            _check_context(model, task, samples)
        hashes = _unique_hashes(task.name, samples)
        for sample, item_hash in zip(samples, hashes, strict=True):
            values = _local_values(task, sample, model)
            for metric in task.metrics:
                records.append(
                    Record(
                        task=task.name,
                        task_version=task.version,
                        item_hash=item_hash,
                        cluster=sample["doc"]["cluster"] or None,
                        seed=seed,
                        metric=metric,
                        value=_finite(task.name, metric, values[metric]),
                        higher_is_better=METRICS[metric],
                    )
                )
    return records


def evaluate_harness(
    checkpoint: Path,
    spec: HarnessSpec,
    *,
    batch_size: int,
    device: Literal["cpu", "cuda"],
    seed: int,
    mask: HeadMask | None,
    tell: Tell = silent,
) -> list[Record]:
    """Records of the harness's own benchmarks; an item of a group's member has that member as its cluster.

    Raises:
        UserError: a benchmark has no such metric or answer filter; or the mask is another model's.
    """
    model = load(HFLM, checkpoint, batch_size, device)  # its benchmarks by its own means
    manager = TaskManager()
    with masking(model, checkpoint, mask), watched(model, tell):
        return [
            record
            for task in spec.tasks
            for record in _benchmark(model, manager, task, spec.allow_code_execution, seed)
        ]


def _benchmark(model: Any, manager: Any, task: HarnessTask, allow_code: bool, seed: int) -> list[Record]:
    _check_benchmark(model, task)
    changed: dict[str, Any] = {}
    # Given beside the task, these update its own settings; inside they would replace its stop words.
    generation: dict[str, Any] | None = None
    if task.sampling is not None:
        generation = {
            "do_sample": True,
            "temperature": task.sampling.temperature,
            "top_p": task.sampling.top_p,
        }
        changed["repeats"] = task.sampling.samples
    elif task.max_new_tokens is not None:
        generation = {"do_sample": False, "max_gen_toks": task.max_new_tokens}
    if task.judge == "last_boxed":
        changed["process_results"] = judge_last_boxed
    asked = _changed(manager, task.harness_name, changed) if changed else [task.harness_name]
    if allow_code:
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # the metric of HumanEval refuses to load without it
    results = lm_eval.simple_evaluate(
        model,
        tasks=asked,
        num_fewshot=task.shots,
        gen_kwargs=generation,
        task_manager=manager,
        bootstrap_iters=0,
        log_samples=True,
        confirm_run_unsafe_code=allow_code,
        apply_chat_template=task.chat,
    )
    records = []
    for member, samples in sorted(results["samples"].items()):
        chosen = [sample for sample in samples if sample["filter"] == task.filter]
        if not chosen:
            filters = sorted({sample["filter"] for sample in samples})
            raise UserError(
                f"benchmark {task.name} asks for the answer filter {task.filter!r} of {member}, "
                f"which has only: {', '.join(filters)}"
            )
        _expect(member, results["n-samples"][member]["original"], len(chosen))
        for sample, item_hash in zip(chosen, _unique_hashes(member, chosen), strict=True):
            if task.metric not in sample["metrics"]:
                raise UserError(
                    f"benchmark {task.name} asks for the metric {task.metric!r} of {member}, which has only: "
                    f"{', '.join(sorted(sample['metrics']))}"
                )
            records.append(
                Record(
                    task=task.name,
                    task_version=f"{member}:{results['versions'].get(member)}",
                    item_hash=item_hash,
                    # A benchmark that is no group would be a single cluster, of which nothing can be said.
                    cluster=member if len(results["samples"]) > 1 else None,
                    seed=seed,
                    metric=task.metric,
                    value=_finite(member, task.metric, sample[task.metric]),
                    higher_is_better=bool(results["higher_is_better"][member][task.metric]),
                )
            )
    return records


def _changed(manager: Any, name: str, changes: dict[str, Any]) -> list[Any]:
    """A benchmark's tasks with some settings changed.

    Asked by a dictionary of a name and changes, this lm-eval knows nothing of the task but the changes.
    """
    tasks = list(manager.load([name])["tasks"].values())
    for task in tasks:
        for key, value in changes.items():
            task.set_config(key=key, value=value)
    return tasks


def _check_benchmark(model: Any, task: HarnessTask) -> None:
    """Raise `UserError` for what the harness would only find out at the first item, in its own words."""
    if task.chat and not getattr(model.tokenizer, "chat_template", None):
        raise UserError(
            f"benchmark {task.name} is asked in a chat and the checkpoint's tokenizer has no chat template: "
            "set chat to false, or evaluate a chat model"
        )
    if task.chat:
        chat_template(model.tokenizer)
    if task.max_new_tokens is not None and task.max_new_tokens >= model.max_length:
        raise UserError(
            f"benchmark {task.name} allows answers of {task.max_new_tokens} tokens and the model's context "
            f"is {model.max_length}: lower max_new_tokens"
        )


def _local_values(task: ListedTask, sample: dict[str, Any], model: Any) -> dict[str, float]:
    if task.form == "solution":
        truncated = sample["arguments"][0][0] in model.truncated
        right = is_right(sample["filtered_resps"][0], sample["doc"]["text"])
        return {"exact_match": float(right and not truncated), "truncated": float(truncated)}
    if task.form == "rolling":
        return {
            "bits_per_byte": -float(sample["filtered_resps"][0])
            / (_bytes(sample["doc"]["text"]) * math.log(2))
        }
    if task.form in ("likelihood", "continuation"):
        log_likelihood, greedy = sample["filtered_resps"][0]
        return {
            "answer_nats": -float(log_likelihood) / _bytes(sample["doc"]["text"]),
            "acc": float(greedy),
        }
    answer = sample["doc"]["answer"]
    per_byte = [
        float(log_likelihood) / _bytes(choice)
        for choice, (log_likelihood, _) in zip(
            sample["doc"]["choices"], sample["filtered_resps"], strict=True
        )
    ]
    best_wrong = max(value for index, value in enumerate(per_byte) if index != answer)
    return {
        "acc": float(sample["acc"]),
        "acc_norm": float(sample["acc_norm"]),
        "answer_nats": -per_byte[answer],
        "margin": per_byte[answer] - best_wrong,
    }


def _bytes(text: str) -> int:
    return len(text.encode())


def _expect(task: str, expected: int, found: int) -> None:
    if found != expected:
        raise HarnessError(f"lm-eval returned {found} items of task {task}, which has {expected}")


def _finite(task: str, metric: str, value: float) -> float:
    if not math.isfinite(value):
        raise HarnessError(
            f"lm-eval returned {value} for {metric} of task {task}: the checkpoint's weights are broken"
        )
    return float(value)


def _check_context(model: Any, task: ListedTask, samples: list[dict[str, Any]]) -> None:
    if task.form == "rolling":  # long texts are read in windows
        return
    longest = 0
    for sample in samples:
        for arguments in sample["arguments"]:
            longest = max(longest, len(model.tok_encode(arguments[0] + arguments[1])))
    # The last token is only predicted, never read.
    if longest - 1 > model.max_length:
        raise UserError(
            f"task {task.name} has an item of {longest} tokens and the model's context is "
            f"{model.max_length}: make the task's items shorter or the target's context longer"
        )


def _unique_hashes(task: str, samples: list[dict[str, Any]]) -> list[str]:
    """The harness's hash of each item; a benchmark's exact duplicates are numbered to stay pairable."""
    seen: Counter[str] = Counter()
    hashes = []
    for sample in samples:
        item_hash = f"{task}:{sample['doc_hash']}"
        seen[item_hash] += 1
        hashes.append(item_hash if seen[item_hash] == 1 else f"{item_hash}#{seen[item_hash]}")
    return hashes


transformers.logging.set_verbosity_error()
