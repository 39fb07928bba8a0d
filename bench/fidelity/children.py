"""launchers: children with and without an environment, isolated, by posix_spawn, spawnv, system, popen and shells: what each sees."""

import os
import subprocess
import sys

import torch

torch.ones(1) * 2
SEEN = """
import os, sys
usual = not (sys.flags.ignore_environment or sys.flags.no_site)
names = sorted(name for name in os.environ if name not in ("PWD", "SHLVL", "_", "OLDPWD")) if usual else []
print(names, sys.flags.isolated, sys.argv, len(sys.path) * usual, flush=True)
"""
ME = sys.executable
for words, how in (
    ([], {}), ([], {"env": {}}), ([], {"env": {"A": "1"}}), ([], {"env": {**os.environ, "A": "1"}}), ([], {"env": {"PYTHONPATH": "here"}}),
    (["-I"], {}), (["-E"], {}), (["-S"], {}), (["-s", "-B"], {}), ([], {"close_fds": False}), ([], {"shell": False, "cwd": "/"}),
):  # fmt: skip
    print(words, sorted(how), flush=True)
    subprocess.run([ME, *words, "-c", SEEN, "x"], **how)
for env in (os.environ, {}, {"A": "1"}):
    pid = os.posix_spawn(ME, [ME, "-c", SEEN], env)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
print(os.spawnv(os.P_WAIT, ME, [ME, "-c", SEEN]), os.spawnve(os.P_WAIT, ME, [ME, "-c", SEEN], {"B": "2"}), flush=True)
os.environ["SEEN"] = SEEN
os.environ["ME"] = ME
print(os.system('$ME -c "$SEEN"'), os.popen('$ME -I -c "$SEEN"').read(), flush=True)
subprocess.run(["/bin/sh", "-c", 'env -i "$ME" -c "$SEEN"; "$ME" -c "$SEEN" y'])
os.environ["PYTHONPATH"] = "mine"
subprocess.run([ME, "-c", "import os, sys; print(os.environ['PYTHONPATH'], sys.path[1][-5:])"])
os.environ.clear()
subprocess.run([ME, "-c", SEEN])
print(subprocess.run(["/usr/bin/env"], env={"C": "3"}, stdout=subprocess.PIPE).stdout)
os.execve(ME, [ME, "-c", SEEN, "executed"], {"D": "4"})
