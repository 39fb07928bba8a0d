"""Put first on PYTHONPATH: takes itself off `sys.path` again, runs the sitecustomize that it shadowed, and arms the recorder.

Never raises, never prints, acts once; the interpreter may be one in which the auditor is not installed.
"""


def _run_the_shadowed_one():
    import sys

    here = __file__.rpartition("/sitecustomize")[0] or __file__.rpartition("\\sitecustomize")[0]
    sys.path[:] = [entry for entry in sys.path if entry != here]
    own = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401  # the one that would have run without us
    except ImportError as error:
        if getattr(error, "name", None) != "sitecustomize":
            raise
    finally:
        # The import system looks for the module that it is importing right now.
        if "sitecustomize" not in sys.modules and own is not None:
            sys.modules["sitecustomize"] = own


def _arm():
    import os

    if "REPRO_AUDIT" not in os.environ:
        return
    try:
        from auditor.record.arm import arm
    except ImportError:  # another interpreter: the parent notices that nothing was recorded and says why
        return
    arm()


try:
    _run_the_shadowed_one()
finally:
    try:
        _arm()
    except Exception:  # noqa: BLE001, S110  # never raises into the user's program; the parent notices an unarmed process
        pass
