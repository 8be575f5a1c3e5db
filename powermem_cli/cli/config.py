"""powermem config: write settings, see where each comes from, find out whether they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Optional

import typer

from powermem_cli.cli.command import command
from powermem_cli.cli.exits import Exit
from powermem_cli.cli.options import DryRun
from powermem_cli.cli.session import Run
from powermem_cli.errors import ConfigError, UsageError, did_you_mean

app = typer.Typer(
    help="Settings: write them, see where each comes from, check them.", no_args_is_help=True, rich_markup_mode=None
)

Llm = Annotated[Optional[str], typer.Option("--llm", metavar="NAME", help="Who finds facts: openai, ollama, or none.")]
LlmModel = Annotated[Optional[str], typer.Option("--llm-model", metavar="NAME", help="Its model.")]
Embedder = Annotated[
    Optional[str], typer.Option("--embedder", metavar="NAME", help="Who makes texts comparable: local is built in.")
]
EmbeddingModel = Annotated[Optional[str], typer.Option("--embedding-model", metavar="NAME", help="Its model.")]
StoreName = Annotated[
    Optional[str], typer.Option("--store", metavar="NAME", help="Where memories are kept: sqlite, oceanbase, postgres.")
]
KEYLESS: Final = ("none", "local", "ollama", "vllm")


@app.command("init")
@command
def init(
    run: Run,
    llm: Llm = None,
    llm_model: LlmModel = None,
    embedder: Embedder = None,
    embedding_model: EmbeddingModel = None,
    store: StoreName = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="PATH", help="The file to write.")] = Path(".env"),
    dry_run: DryRun = False,
) -> None:
    """Write a .env for you alone: asks in a terminal, else takes flags.

    A key is never taken from a flag.
    """
    given = {
        "LLM_PROVIDER": llm,
        "LLM_MODEL": llm_model,
        "EMBEDDING_PROVIDER": embedder,
        "EMBEDDING_MODEL": embedding_model,
        "DATABASE_PROVIDER": store,
    }
    if output.exists() or output.is_symlink():
        raise ConfigError(
            f"{output} is there already", hint="change it, or write another one: -o PATH", code="config.file"
        )
    if not any(given.values()) and not run.options["yes"]:
        if not (run.stdin.isatty() and run.stderr.isatty()):
            raise UsageError(
                "there is no terminal to ask",
                hint="say it with flags: --llm NAME, --embedder NAME, --store NAME; or -y",
            )
        given = _asked(run)
    content = _env_file({name: value for name, value in given.items() if value is not None})
    missing = _missing_keys(given)
    if not dry_run:
        _write(output, content)
    if run.form != "auto":
        would_be = {"content": content} if dry_run else {}
        run.write_json({"output": str(output), "dry_run": dry_run, **would_be, "keys_missing": missing})
        return
    if dry_run:
        run.note(f"dry run: this would be {output}")
        run.stdout.write(content)
        return
    run.note(f"{output} is written, for you alone; powermem config validate checks it")
    for name in missing:
        run.note(f"put the key into it, as {name}, or into the environment")


def _asked(run: Run) -> dict[str, str | None]:
    from powermem_cli.providers import EMBEDDERS, LLMS  # noqa: PLC0415 - `--help` does without
    from powermem_cli.stores import STORES  # noqa: PLC0415

    given: dict[str, str | None] = {}
    for name, title, known, default in (
        ("LLM", "Who finds facts in conversations", ("none", *LLMS), "none"),
        ("EMBEDDING", "Who makes texts comparable", tuple(EMBEDDERS), "local"),
    ):
        provider = _ask_one_of(run, title, known, default)
        given[f"{name}_PROVIDER"] = provider
        if provider not in {"none", "local"}:
            given[f"{name}_MODEL"] = _ask(run, "  its model (empty: its default)") or None
        if provider not in KEYLESS:
            given[f"{name}_API_KEY"] = _ask_secret(run, "  its API key (not shown; empty: it comes from elsewhere)")
    given["DATABASE_PROVIDER"] = _ask_one_of(run, "Where memories are kept", tuple(STORES), "sqlite")
    return given


def _ask_one_of(run: Run, title: str, known: tuple[str, ...], default: str) -> str:
    while True:
        run.say(f"{title}? {', '.join(known)}")
        answer = (_ask(run, f"[{default}]") or default).lower()
        if answer in known:
            return answer
        run.say(f"  {did_you_mean(answer, known)}")


def _ask(run: Run, question: str) -> str:
    print(f"{question}: ", end="", file=run.stderr, flush=True)
    answer = run.stdin.readline()
    if not answer:
        raise UsageError("the answers ended before the questions; nothing was written")
    return answer.strip()


def _ask_secret(run: Run, question: str) -> str | None:
    """An answer the terminal does not show. After Ctrl-C it shows again what is typed."""
    import signal  # noqa: PLC0415 - `--help` does without
    import termios  # noqa: PLC0415

    from powermem_cli.cli.exits import die_of  # noqa: PLC0415

    terminal = run.stdin.fileno()
    shown = termios.tcgetattr(terminal)
    hidden = [*shown[:3], shown[3] & ~termios.ECHO, *shown[4:]]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # as it is set, it would end us here and now
    try:
        # Without TCSAFLUSH, as getpass has it: what was pasted already is part of the answer.
        termios.tcsetattr(terminal, termios.TCSADRAIN, hidden)
        return _ask(run, question) or None
    except KeyboardInterrupt:
        termios.tcsetattr(terminal, termios.TCSADRAIN, shown)
        die_of(signal.SIGINT)
        raise
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, shown)
        signal.signal(signal.SIGINT, before)
        print(file=run.stderr)


def _env_file(given: dict[str, str]) -> str:
    """Its content. Raises ConfigError for a name that is none, with those there are."""
    from powermem_cli.providers import EMBEDDERS, LLMS  # noqa: PLC0415 - `--help` does without
    from powermem_cli.stores import STORES  # noqa: PLC0415

    tables = {"LLM_PROVIDER": ("none", *LLMS), "EMBEDDING_PROVIDER": EMBEDDERS, "DATABASE_PROVIDER": STORES}
    lines = ["# Settings of powermem; every name there is: powermem help env"]
    for name, value in given.items():
        if name in tables and value not in tables[name]:
            raise ConfigError(
                f"{name} can't be {value!r}", hint=did_you_mean(value, tables[name]), code="config.provider"
            )
        if not value.isprintable():
            raise ConfigError(f"{name} holds a character that no setting has", code="config.value")
        if value != "none":
            lines.append(f"{name}={_quoted(value)}")
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    if all(c.isascii() and (c.isalnum() or c in "-_./:") for c in value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _missing_keys(given: dict[str, str | None]) -> list[str]:
    return [
        f"{name}_API_KEY"
        for name in ("LLM", "EMBEDDING")
        if (given.get(f"{name}_PROVIDER") or "none") not in KEYLESS and not given.get(f"{name}_API_KEY")
    ]


def _write(path: Path, content: str) -> None:
    """A new file that nobody else may read; what is there already stays. Raises ConfigError."""
    import os  # noqa: PLC0415

    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(number, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(number)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}", code="config.file") from error


@app.command("show")
@command
def show(
    run: Run,
    name: Annotated[Optional[str], typer.Argument(metavar="[NAME]", help="Only this one, as in llm.model.")] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Where each value comes from, too.")] = False,
) -> None:
    """Show the settings in force; of a secret only its ends."""
    from powermem_cli.output.cells import write_cells  # noqa: PLC0415 - `--help` does without

    chosen = [setting for setting in run.settings.shown if name in {None, setting.name}]
    if not chosen and name is not None:
        known = [setting.name for setting in run.settings.shown]
        raise ConfigError(f"nothing sets {name!r}", hint=did_you_mean(name, known), code="config.name")
    if run.form != "auto":
        run.write_json(
            {"settings": [{"name": one.name, "value": one.value, "origin": str(one.origin)} for one in chosen]}
        )
        return
    rows: list[tuple[Any, ...]] = [(one.name, one.value, *([str(one.origin)] if origin else [])) for one in chosen]
    write_cells(("setting", "value", *(["from"] if origin else [])), rows, run.stdout, run.environ)


@app.command("path")
@command
def path(run: Run) -> None:
    """Show which files are read and written, and whether they are there."""
    from powermem_cli.output.cells import write_cells  # noqa: PLC0415 - `--help` does without
    from powermem_cli.paths import state_folder, user_config_file  # noqa: PLC0415

    places = {
        "env file": Path(run.options["env_file"] or ".env"),
        "config file": Path(run.options["config"] or user_config_file(run.environ)),
        "jobs": state_folder(run.environ),
    }
    store = run.settings.config.vector_store
    if store.provider == "sqlite":
        places["store"] = Path(store.options["path"]).expanduser()
    if run.form != "auto":
        run.write_json({"paths": [{"name": n, "path": str(p), "exists": p.exists()} for n, p in places.items()]})
        return
    rows = [(name, place, "there" if place.exists() else "not there") for name, place in places.items()]
    write_cells(("", "", ""), rows, run.stdout, run.environ)


@app.command("validate")
@command
def validate(run: Run) -> Exit | None:
    """See whether the settings can be used, without asking anybody."""
    from powermem_cli.providers import create_embedder, create_llm, create_reranker  # noqa: PLC0415
    from powermem_cli.stores import create_store  # noqa: PLC0415

    config = run.settings.config
    create_store(config.vector_store.provider, config.vector_store.options)
    create_embedder(config.embedder.provider, config.embedder.options)
    if config.llm is not None:
        create_llm(config.llm.provider, config.llm.options)
    if config.reranker is not None:
        create_reranker(config.reranker.provider, config.reranker.options)
    if run.form != "auto":
        run.write_json({"ok": True, "warnings": list(run.settings.warnings)})
    else:
        run.note("the settings can be used; powermem check also asks the providers")
    return None
