"""What this project never does, looked for in the syntax tree and in the words."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("airlab", "experiments")
MAY_SET_ENVIRONMENT = ("airlab/cli/", "airlab/evaluation/worker.py", "airlab/evaluation/harness.py")
"""The command line before anything is imported, and the process that runs lm-eval and nothing else."""

FORWARDS_ERRORS = {
    "airlab/evaluation/worker.py",
    "airlab/text/template_process.py",
    "airlab/training/tracking.py",
}
"""Two send whatever went wrong to their parent process, which raises it there; the third tells of a tracker
that fails, and goes on training."""

TEXT = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".cff", ".json", ".cfg", ".sh", ".csv", ".tex", ""}
NOT_OURS_TO_READ = {".git", ".venv", ".hypothesis", ".airlab", "outputs", "build", "dist", "airlab.egg-info"}

Finding = Iterator[int]


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    """Relative to the repository."""
    return path.relative_to(ROOT).as_posix()


def called(node: ast.AST) -> str:
    """`a.b.c` for a call of it, else nothing."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve"}


def pickles(tree: ast.AST) -> Finding:
    """Pickle by any name, and the loaders that fall back to it."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if {name.split(".")[0] for name in names} & PICKLERS:
            yield node.lineno  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            unsafe = called(node) == "torch.load" and given.get("weights_only") != "True"
            if unsafe or given.get("allow_pickle", "False") != "False" or called(node).endswith("_pickle"):
                yield node.lineno


def evaluates_text(tree: ast.AST) -> Finding:
    """The built-ins that run text, and the hash that differs from process to process."""
    for node in ast.walk(tree):
        if called(node) in ("eval", "exec", "hash", "builtins.eval", "builtins.exec", "builtins.hash"):
            yield node.lineno  # type: ignore[attr-defined]


SAFE_YAML = {"SafeLoader", "CSafeLoader", "yaml.SafeLoader", "yaml.CSafeLoader"}


def trusts_strangers(tree: ast.AST) -> Finding:
    """YAML that makes objects, a shell that reads words, code of a model's, HTML that is not escaped."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        loader = given.get("Loader", ast.unparse(node.args[1]) if len(node.args) > 1 else None)
        if (
            (name in ("yaml.load", "yaml.load_all") and loader not in SAFE_YAML)
            or re.fullmatch(r"yaml\.(unsafe|full)_load(_all)?", name)
            or given.get("shell", "False") != "False"
            or name in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput")
            or given.get("trust_remote_code", "False") != "False"
            or (
                (name in ("Environment", "jinja2.Environment", "Template", "jinja2.Template"))
                and given.get("autoescape") != "True"
            )
        ):
            yield node.lineno


def prints_the_unknown(tree: ast.AST) -> Finding:
    """`default=str` and its like, which give an identity to what has none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node).split(".")[0] in ("json", "orjson", "canonical"):
            for keyword in node.keywords:
                if keyword.arg == "default" and ast.unparse(keyword.value) in ("str", "repr"):
                    yield node.lineno


def swallows(tree: ast.AST) -> Finding:
    """Catching everything, by any name, without raising anything."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {ast.unparse(kind) if kind is not None else "bare" for kind in kinds}
        everything = names & {"bare", "Exception", "BaseException"}
        if everything and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
            yield node.lineno


def sets_environment(tree: ast.AST) -> Finding:
    """Assigning, deleting or updating os.environ."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            if ast.unparse(node.value) in ("os.environ", "environ"):
                yield node.lineno
        elif isinstance(node, ast.AugAssign) and ast.unparse(node.target) in ("os.environ", "environ"):
            yield node.lineno
        elif called(node) in ("os.putenv", "os.unsetenv") or re.fullmatch(
            r"(os\.)?environ\.(update|setdefault|pop|popitem|clear|__setitem__)", called(node)
        ):
            yield node.lineno  # type: ignore[attr-defined]


def found(rule: Callable[[ast.AST], Finding], paths: list[Path]) -> list[str]:
    return [f"{name_of(p)}:{line}" for p in paths for line in rule(ast.parse(p.read_text()))]


RULES = [pickles, evaluates_text, trusts_strangers, prints_the_unknown, swallows]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_it_is_never_done(rule: Callable[[ast.AST], Finding]) -> None:
    paths = [p for p in python_files(*OURS) if rule is not swallows or name_of(p) not in FORWARDS_ERRORS]
    assert len(paths) >= 50
    assert found(rule, paths) == []


def test_the_environment_is_set_only_where_a_process_begins() -> None:
    paths = [p for p in python_files(*OURS) if not name_of(p).startswith(MAY_SET_ENVIRONMENT)]
    assert len(paths) >= 50
    assert found(sets_environment, paths) == []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (pickles, "import pickle"),
        (pickles, "from cloudpickle import dumps"),
        (pickles, "torch.load(path)"),
        (pickles, "torch.load(path, weights_only=False)"),
        (pickles, "np.load(path, allow_pickle=True)"),
        (evaluates_text, "eval(text)"),
        (evaluates_text, "x = hash(y)"),
        (trusts_strangers, "yaml.load(text)"),
        (trusts_strangers, "yaml.load(text, Loader=yaml.UnsafeLoader)"),
        (trusts_strangers, "yaml.unsafe_load(text)"),
        (trusts_strangers, "subprocess.run(f'ls {x}', shell=True)"),
        (trusts_strangers, "os.system('ls')"),
        (trusts_strangers, "Model.from_pretrained(x, trust_remote_code=True)"),
        (trusts_strangers, "Model.from_pretrained(x, trust_remote_code=trusted)"),
        (trusts_strangers, "jinja2.Environment(loader=x)"),
        (trusts_strangers, "Environment(autoescape=False)"),
        (prints_the_unknown, "json.dumps(x, default=str)"),
        (swallows, "try:\n  f()\nexcept:\n  pass"),
        (swallows, "try:\n  f()\nexcept Exception:\n  x = None"),
        (swallows, "try:\n  f()\nexcept (ValueError, BaseException) as e:\n  print(e)"),
        (sets_environment, "os.environ['A'] = '1'"),
        (sets_environment, "del os.environ['A']"),
        (sets_environment, "os.environ.setdefault('A', '1')"),
        (sets_environment, "os.environ |= {}"),
    ],
)
def test_each_rule_sees_what_it_forbids(rule: Callable[[ast.AST], Finding], code: str) -> None:
    assert list(rule(ast.parse(code)))


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (pickles, "torch.load(path, weights_only=True)\nnp.load(path)"),
        (evaluates_text, "model.eval()"),
        (trusts_strangers, "yaml.safe_load(text)\nyaml.load(text, Loader=yaml.CSafeLoader)"),
        (trusts_strangers, "subprocess.run(['ls', x])\nload(x, trust_remote_code=False)"),
        (trusts_strangers, "Environment(loader=x, autoescape=True)"),
        (swallows, "try:\n  f()\nexcept OSError:\n  x = None"),
        (swallows, "try:\n  f()\nexcept Exception as error:\n  raise UserError('x') from error"),
        (sets_environment, "x = os.environ['A']\ny = os.environ | {'A': '1'}\nos.environ.get('A')"),
    ],
)
def test_no_rule_forbids_what_is_right(rule: Callable[[ast.AST], Finding], code: str) -> None:
    assert not list(rule(ast.parse(code)))


def test_every_module_says_what_it_is_for() -> None:
    # An empty __init__.py only marks a folder.
    texts = {name_of(p): p.read_text() for p in python_files(*OURS)}
    assert [name for name, text in texts.items() if text and not ast.get_docstring(ast.parse(text))] == []


def test_no_name_says_nothing() -> None:
    empty = {"utils", "util", "common", "misc", "helpers", "helper", "stuff", "tools"}
    paths = [p for folder in (*OURS, "tests") for p in (ROOT / folder).rglob("*")]
    names = [name_of(p) for p in paths if "__pycache__" not in p.parts]
    assert len(names) >= 80
    assert [name for name in names if set(re.split(r"[/_.]", name.lower())) & empty] == []


def our_texts() -> Iterator[Path]:
    for path in sorted(ROOT.iterdir()):
        if path.name in NOT_OURS_TO_READ or path.name.endswith("cache"):
            continue
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            hidden_cache = any(part == "__pycache__" or part.endswith("_cache") for part in file.parts)
            if file.is_file() and file.suffix in TEXT and not hidden_cache and file != Path(__file__):
                yield file


def elsewhere(text: str) -> list[str]:
    """Places outside the repository: somebody's folders, an index that packages were taken from."""
    pattern = (
        r"(?<![\w.~$}/-])/(?:home|work|root|Users|mnt|scratch)/[\w.-]+"
        r"|(?<![\w.~$}/-])/tmp/(?:wh|v)\b"
        r"|--(?:extra-)?index-url|PIP_INDEX_URL|UV_INDEX"
        r"|https?://[\w.:-]+(?:/[\w.-]+)*/simple\b"
        r"|\b(?:pypi\.org|pythonhosted\.org)\b"
    )
    return re.findall(pattern, text)


def test_the_repository_speaks_of_the_project_alone() -> None:
    texts = list(our_texts())
    assert len(texts) >= 80
    foreign = {name_of(p): elsewhere(p.read_text(errors="replace")) for p in texts}
    assert {name: places for name, places in foreign.items() if places} == {}


FOREIGN = ["/home/me/x", '"/scratch/main"', "--extra-index-url x", "https://a.b:80/x/simple/", "at pypi.org"]


@pytest.mark.parametrize("text", FOREIGN)
def test_a_foreign_place_would_be_seen(text: str) -> None:
    assert elsewhere(text)


@pytest.mark.parametrize("text", ["a/home/b", "docs/mnt/x", "https://example.org/home/a", "~/home/x"])
def test_our_own_places_are_fine(text: str) -> None:
    assert not elsewhere(text)
