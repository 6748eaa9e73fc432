"""`omr teacher serve`: the embedded teacher as a server."""

from typing import Annotated

import typer

from omr_data.cli.common import require_extra

app = typer.Typer(help="The embedded teacher.", no_args_is_help=True)


@app.callback()
def teacher_callback() -> None:
    """Keeps `serve` a command of its own: typer would fold a group of one command into its parent."""


@app.command("serve")
def serve_command(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8000,
) -> None:
    """Serve the embedded teacher as an OpenAI-compatible server, to try the HTTP path with a real model."""
    require_extra("view", "starlette", "uvicorn")
    # Imported here because it needs extras that a light installation lacks.
    from omr_data.teachers.tiny.serve import serve

    serve(host, port)
