"""What records the ops of one thread: `protocol.py` says what a core must answer, `python.py` is the one there is.

`inputs`, `outputs` and `general` are its parts; `op_facts` says what a schema tells of an op, `leaves` and `module_paths` name
parameters and modules, `measures` looks at what some ops did to the numbers.
"""
