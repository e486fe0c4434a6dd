"""What packages of environments need before theirs are made. None is imported unless one of its own is asked for."""

import warnings
from contextlib import suppress

import gymnasium

from rlgrad.errors import SettingError


def get_ready(id: str) -> None:
    """Let Gymnasium know ale-py's games, if this is one, and let MuJoCo's warnings be Python's: by itself it prints
    them anew for each copy, and leaves a file of them. Raises SettingError where ale-py is not installed."""
    if id.startswith("ALE/") and id not in gymnasium.registry:
        try:
            import ale_py
        except ImportError as error:
            message = f"{id} needs what is not installed; install the extra: pip install 'rlgrad[atari]'"
            raise SettingError(("environment",), message) from error
        gymnasium.register_envs(ale_py)
    spec = gymnasium.registry.get(id)
    if spec and str(spec.entry_point).startswith("gymnasium.envs.mujoco"):
        with suppress(ImportError, AttributeError):  # not installed, which Gymnasium says; or too old for that
            import mujoco

            if mujoco.get_mju_user_warning() is None:
                mujoco.set_mju_user_warning(lambda text: warnings.warn(text, stacklevel=2))
