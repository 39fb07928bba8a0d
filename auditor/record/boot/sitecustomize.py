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
    import sys

    if "REPRO_AUDIT" not in os.environ:
        return
    # A user's folder can have files named as what we import: those are for the user's own imports.
    users = {os.path.abspath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    home = os.path.abspath(__file__)
    for _ in range(4):
        home = os.path.dirname(home)
    usual = sys.path[:]
    loaded = set(sys.modules)
    sys.path[:] = [entry for entry in usual if os.path.abspath(entry) not in users]
    if home not in sys.path:
        sys.path.append(home)
    try:
        try:
            from auditor.record.arm import arm
        except ImportError:  # what we need may lie there after all
            sys.path[:] = usual
            from auditor.record.arm import arm
    except ImportError:  # another interpreter: the parent notices that nothing was recorded and says why
        return
    finally:
        sys.path[:] = usual
    arm(loaded)


try:
    _run_the_shadowed_one()
finally:
    try:
        _arm()
    except Exception:  # noqa: BLE001, S110  # never raises into the user's program; the parent notices an unarmed process
        pass
