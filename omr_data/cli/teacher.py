"""`omr teacher serve`: the embedded teacher as a server."""

from typing import Annotated

import typer

from omr_data.cli.common import require_extra

app = typer.Typer(help="The embedded teacher.", no_args_is_help=True)


@app.callback()
def teacher_callback() -> None:
    """The embedded teacher."""
    # Without this callback typer would fold the group's only command into the group itself.


@app.command("serve")
def serve_command(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8000,
) -> None:
    """Serve the embedded teacher as an OpenAI-compatible server.

    It is a real model for trying teachers over HTTP. It is too small to be a useful teacher.
    """
    # Asked for first, so that the message names the extra and not a module.
    require_extra("view", "starlette", "uvicorn")
    # Imported here because it needs extras that a light installation lacks.
    from omr_data.teachers.tiny.serve import serve

    serve(host, port)
