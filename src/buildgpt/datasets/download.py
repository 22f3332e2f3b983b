"""Models by name from the Hugging Face hub."""

from pathlib import Path

from buildgpt.core import Core

NEEDED = ["config.json", "model.safetensors"]  # never a pickle
USEFUL = ["vocab.json"]


def local_folder(core: Core, source: str) -> Path:
    """The folder `source`, or for hf:owner/name the folder that it was downloaded to.

    Raises UserError, with the way to go on offline, where it cannot be had.
    """
    if not source.startswith("hf:"):
        return Path(source)
    error = core.config.UserError
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise error("downloading needs huggingface_hub: pip install 'buildgpt[hub]'") from None
    name = source.removeprefix("hf:")
    try:
        return Path(snapshot_download(name, allow_patterns=[*NEEDED, *USEFUL]))
    except Exception as problem:  # the library's errors for no network, no such name, no access
        reason = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise error(
            f"cannot download {name}: {reason}; without a network, copy its"
            f" {' and '.join(NEEDED)} into a folder here and give that folder instead"
        ) from None
