"""Rewrites of exported graphs that leave fewer operators and equal results.

A ``Scan`` calls each operator once a step, and a call costs more than a small sum.
"""

from __future__ import annotations

from typing import Any


def join_parts(model: Any) -> None:
    """Leave out each Split that only undoes a Concat."""
    for node in list(model.graph.all_nodes()):
        source = node.inputs[0].producer() if node.op_type == "Split" and node.inputs else None
        if source is None or source.op_type != "Concat":
            continue
        shapes = [[part.shape for part in parts] for parts in (source.inputs, node.outputs)]
        if None in shapes[0] or shapes[0] != shapes[1]:
            continue
        for part, output in zip(source.inputs, node.outputs):
            output.replace_all_uses_with(part)


def join_sums(model: Any) -> None:
    """Write sums of sums as one ``Sum`` of all terms."""
    from onnxscript import ir

    for node in list(model.graph.all_nodes()):
        if not _is_sum(node):
            continue
        terms: list[Any] = []
        inner: list[Any] = []
        for term in node.inputs:
            source = term.producer()
            only_here = len(term.uses()) == 1 and not term.is_graph_output()
            if _is_sum(source) and source.graph is node.graph and only_here:
                inner.append(source)
                terms += source.inputs
            else:
                terms.append(term)
        if inner:
            _replace([node, *inner], [ir.node("Sum", terms)], node.outputs)


def join_sigmoids(model: Any) -> None:
    """Compute the sigmoids of three or more parts of a Split as one, before the Split.

    The sigmoid of another part is computed in vain.
    """
    from onnxscript import ir

    for node in list(model.graph.all_nodes()):
        if node.op_type != "Split":
            continue
        users = [[use.node for use in part.uses()] for part in node.outputs]
        gates = [one[0] if [n.op_type for n in one] == ["Sigmoid"] else None for one in users]
        if gates.count(None) > 1 or len(gates) < 4:
            continue
        whole, axis = node.inputs[0], node.attributes["axis"].as_int()
        sigmoid = _new("Sigmoid", [whole], whole.name)
        given = [sigmoid.outputs[0], *node.inputs[1:]]
        split = ir.node("Split", given, node.attributes, num_outputs=len(gates))
        added, values, end = [sigmoid, split], [], 0
        for gate, part, new in zip(gates, node.outputs, split.outputs):
            start, end = end, end + part.shape[axis]
            if gate is not None:
                values.append((gate.outputs[0], new))
                continue
            new.name = f"{part.name}.unused"
            bounds = {"start": start, "end": end, "axis": axis}
            numbers = [_new("Constant", [], f"{part.name}.{k}", [n]) for k, n in bounds.items()]
            piece = ir.node("Slice", [whole, *(one.outputs[0] for one in numbers)])
            added += [*numbers, piece]
            values.append((part, piece.outputs[0]))
        _replace([node, *filter(None, gates)], added, *zip(*values))


def _new(kind: str, inputs: list[Any], name: str, numbers: list[int] | None = None) -> Any:
    """Return a node with one result, whose name is that of no other value in any of the graphs."""
    from onnxscript import ir

    attributes = {} if numbers is None else {"value_ints": numbers}
    return ir.node(kind, inputs, attributes, outputs=[ir.Value(name=f"{name}.{kind.lower()}")])


def _is_sum(node: Any) -> bool:
    """Return whether a node is a sum of numbers that are not integers."""
    if node is None or node.op_type not in ("Add", "Sum"):
        return False
    dtype = node.outputs[0].dtype
    return dtype is not None and dtype.is_floating_point()


def _replace(nodes: Any, added: Any, values: Any, others: Any = None) -> None:
    """Put nodes behind the first of some that they replace.

    Args:
        nodes, added: the old and the new nodes.
        values, others: the old results and, in their order, the new ones; by default those of the
            last new node.
    """
    from onnxscript import ir

    others = added[-1].outputs if others is None else others
    ir.convenience.replace_nodes_and_values(
        nodes[0].graph, nodes[0], nodes, added, list(values), list(others)
    )
