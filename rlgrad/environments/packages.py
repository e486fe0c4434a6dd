"""What packages need before their environments are made. A package is imported only if its environment is used."""

import warnings
from contextlib import suppress

import gymnasium

from rlgrad.errors import SettingError


def get_ready(id: str) -> None:
    """Register ale-py's games with Gymnasium, if this is one, and make MuJoCo's warnings Python's: by itself MuJoCo
    prints them again for each copy, and writes a file. Raises SettingError if ale-py is not installed."""
    if id.startswith("ALE/") and id not in gymnasium.registry:
        try:
            import ale_py
        except ImportError as error:
            message = f"{id} needs a package that is not installed; install the extra: pip install 'rlgrad[atari]'"
            raise SettingError(("environment",), message) from error
        gymnasium.register_envs(ale_py)
    spec = gymnasium.registry.get(id)
    if spec and str(spec.entry_point).startswith("gymnasium.envs.mujoco"):
        with suppress(ImportError, AttributeError):  # not installed, as Gymnasium will say; or too old for this
            import mujoco

            if mujoco.get_mju_user_warning() is None:
                mujoco.set_mju_user_warning(lambda text: warnings.warn(text, stacklevel=2))
