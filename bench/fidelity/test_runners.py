"""introspection: unittest, doctest and pdb run code with ops as they do."""

import doctest
import io
import pdb
import unittest

import torch


def double(x):
    """Doubles.

    >>> double(torch.ones(2))
    tensor([2., 2.])
    >>> double(None)
    Traceback (most recent call last):
    TypeError: unsupported operand type(s) for *: 'NoneType' and 'int'
    """
    y = x * 2
    return y


class Doubles(unittest.TestCase):
    def test_it_doubles(self):
        self.assertTrue(torch.equal(double(torch.ones(2)), torch.full((2,), 2.0)))

    def test_it_fails(self):
        torch.testing.assert_close(double(torch.ones(2)), torch.ones(2))

    def test_it_raises(self):
        with self.assertRaises(RuntimeError) as caught:
            torch.ones(2) + torch.ones(3)
        self.assertIn("must match", str(caught.exception))

    def test_it_warns(self):
        with self.assertWarns(UserWarning):
            torch.nn.functional.l1_loss(torch.ones(2), torch.ones(2, 1))


print(doctest.testmod())
said = io.StringIO()
result = unittest.TextTestRunner(said, verbosity=2).run(unittest.defaultTestLoader.loadTestsFromTestCase(Doubles))
print(result, "".join(line for line in said.getvalue().splitlines(True) if not line.startswith("Ran ")))
told = io.StringIO()
debugger = pdb.Pdb(stdin=io.StringIO("step\nnext\nnext\nnext\nprint(y)\nwhere\ncontinue\n"), stdout=told, nosigint=True, readrc=False)
debugger.runcall(double, torch.ones(1))
print(told.getvalue())
