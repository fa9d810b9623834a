"""`minivlm import-checkpoint`: a checkpoint of the original → a standard LLaVA directory."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    checkpoint: Annotated[Path, typer.Argument(help="llm_*.pth, pretrain_vlm_*.pth or sft_vlm_*.pth.")],
    vision: Annotated[
        Path, typer.Option(help="Directory of the CLIP vision tower (CLIPVisionModel or CLIPModel).")
    ],
    tokenizer: Annotated[Path, typer.Option(help="Directory of the original's tokenizer.")],
    out: Annotated[Path, typer.Option(help="Directory to write: new or empty.")],
    config: Annotated[
        Path | None, typer.Option(help="JSON of the original's configuration fields that shapes cannot tell.")
    ] = None,
    image_token_id: Annotated[
        int | None, typer.Option(help="The token whose run is a picture; 34 ('@') unless the configuration says.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the model that is in --out.")] = False,
) -> None:
    """Turn a checkpoint of the original into a directory that transformers loads."""
    from minivlm.model.minimind import import_checkpoint

    done = import_checkpoint(
        checkpoint, vision, tokenizer, out, config=config, image_token_id=image_token_id, force=force
    )
    parts = ", ".join(f"{name} {count:,}" for name, count in done.parameters.items())
    typer.echo(f"{done.directory}: {parts} parameters")
    typer.echo(f"a picture is {done.image_tokens} tokens {done.image_token!r} ({done.image_token_id})")
    if done.projector == "drawn":
        typer.echo("the checkpoint has no projector: one was drawn, untrained; train before you ask it anything")
    if done.ignored:
        typer.echo(f"fields of the configuration without a meaning here: {', '.join(done.ignored)}")
