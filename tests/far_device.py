"""A device apart from the CPU, as a GPU is, on a machine that has none: its tensors hide others.

Tensors on it and on the CPU do not meet in one operation, but to be copied or to name places, and
none of them becomes an array before it was moved.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "far"
_MEET = {"copy_", "index", "index_put_", "_index_put_impl_", "to", "_to_copy"}
_setup_privateuseone_for_python_backend(NAME)


class _Far(torch.Tensor):
    """A tensor that says it lies on the device; `near` has its numbers."""

    @staticmethod
    def __new__(cls, near):
        about = {"dtype": near.dtype, "strides": near.stride(), "device": NAME}
        about["storage_offset"] = near.storage_offset()
        made = torch.Tensor._make_wrapper_subclass(cls, near.size(), **about)
        made.near = near
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return _run(op, args, kwargs or {})


class _Apart(TorchDispatchMode):
    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        return _run(op, args, kwargs or {})


def _run(op, args, kwargs):
    leaves = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    asked = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
    far, name = [t for t in tensors if isinstance(t, _Far)], op._schema.name.split("::")[1]
    near = [t for t in tensors if not isinstance(t, _Far) and t.ndim]
    if far and near and name not in _MEET:
        raise RuntimeError(f"{name}: tensors on {NAME} and the CPU meet")
    if name in ("index", "index_put_", "_index_put_impl_") and far and tensors[0] is not far[0]:
        raise RuntimeError(f"{name}: places on {NAME} are named in a tensor on the CPU")
    goes = isinstance(tensors[0], _Far) if name == "copy_" else bool(far)
    goes = asked.type == NAME if asked else goes
    here = torch.device("cpu")

    def inside(leaf):
        if isinstance(leaf, torch.device):
            return here
        return leaf.near if isinstance(leaf, _Far) else leaf

    known = {id(tensor.near): tensor for tensor in far}
    found = op(*tree_map(inside, args), **tree_map(inside, kwargs))

    def outside(leaf):
        if not goes or not isinstance(leaf, torch.Tensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else _Far(leaf)

    return tree_map(outside, found)


def there(monkeypatch):
    """Return a context in which the device is there."""
    # A wrapped tensor has no version, which this mode asks for.
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)
    return _Context()


class _Context(_Apart):
    def __enter__(self):
        # Tensors of numbers are made on the CPU and moved, so that the move is seen.
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*error)
