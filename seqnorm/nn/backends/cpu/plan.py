"""Plans of the kernels for a step and its scheme: the norms that they compute, and their sets.

Axes: H units, G gates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

from torch import Tensor

from ...recurrence.direction import Direction
from ...recurrence.scheme import WITHIN, Norm, NormScheme
from ...recurrence.step import Nonlinear, Step
from .library import KINDS, STEPS, Arguments
from .states import MOST

# Where biases are added: to W_ih x before its norm, to the normalised terms of x and of h.
PLACES = {"bias_in": "i", "bias_x": "x", "bias_h": "h"}


@dataclass(frozen=True)
class Plan:
    """The computation of one step with one scheme by the kernels, with sets of whole gates.

    Attributes:
        step, scheme: the definition.
        hidden_size: units of each gate.
        reason: the reason why the kernels cannot compute it, or None.
        sites: the sites of the norms of x, of h (or of their sum) and of c (or of a GRU's
            candidate); "" for a norm that does not exist or is computed before the kernel.
        kinds, eps: kinds and eps of the same norms.
        sets: for each set of the norms of x and h, the gate after its last one. A GRU's candidate
            with a norm of its own belongs to no set.
        batch: true if the kernels compute norms of the rows of a step.
        pooled: true if they compute a norm of the input over time.
        hoisted: true if a norm of the input is computed before the kernel.
        outside: true if some norms are computed before or after the kernel.
        joined: true if only x + W_hh h counts: the only norm is one of the sum, or there is no norm
            of x or h, and the step only adds them.
        has_options: true if the step has options, of which a plan knows only the present values.
        relu: true if the nonlinearity of a step with a choice is ReLU.
        heads: the number of equal parts of the recurrence.
        states: the number of tensors that hold the state: h, and one for all other parts.
        carried: the reals of the other parts of the state in a row.
        places: where bias_ih, bias_hh, and the biases of the norms of x and h are added, see
            ``PLACES``. Beside a norm of the candidate, "x" is the place after the norm of the sum.
    """

    step: Step
    scheme: NormScheme | None
    hidden_size: int
    reason: str | None
    sites: tuple[str, str, str]
    kinds: tuple[str | None, ...]
    eps: tuple[float, ...]
    sets: tuple[int, ...]
    batch: bool
    pooled: bool
    hoisted: bool
    outside: bool
    joined: bool
    has_options: bool
    relu: bool
    heads: int
    states: int
    carried: int
    places: tuple[str, str, str, str]

    @cached_property
    def arguments(self) -> bytes:
        """``Arguments`` with all values that do not depend on the tensors of a call."""
        return bytes(
            Arguments(
                cell=STEPS[self.step.name],
                H=self.hidden_size,
                P=self.hidden_size,  # without a projection
                G=len(self.step.gates),
                sets=len(self.sets),
                set_end=self.sets + (0,) * (4 - len(self.sets)),
                sum=self.joined,
                swapped=self.swapped,
                relu=self.relu,
                heads=self.heads,
                std_c=self.std_c,
                **{f"norm_{term}": KINDS[kind] for term, kind in zip("xhc", self.kinds)},
                **{f"eps_{term}": eps for term, eps in zip("xhc", self.eps)},
            )
        )

    @property
    def swapped(self) -> bool:
        """True if an LSTM carries its normalised c on, or z of a GRU takes the candidate."""
        scheme = self.scheme
        return scheme is not None and (scheme.cell_state, scheme.update) != ("raw", "keep")

    @property
    def std_c(self) -> bool:
        """True if eps of the norm of c is added to the deviation and not to the variance."""
        cell = None if self.scheme is None else self.scheme.cell
        return cell is not None and cell.eps_on == "std"

    def norm_at(self, site: str) -> Norm:
        """Return the norm of the scheme at one of the sites of the plan."""
        assert self.scheme is not None
        return self.scheme.norms["sum" if site == "candidate" else site]

    @cached_property
    def added(self) -> dict[str, tuple[int, ...]]:
        """The numbers of the biases that are added at each of ``PLACES``."""
        return {
            name: tuple([k for k, letters in enumerate(self.places) if letter in letters])
            for name, letter in PLACES.items()
        }


def has_relu(step: Step) -> bool:
    """Return whether a step has a choice of the nonlinearity, and it is ReLU."""
    return isinstance(step, Nonlinear) and step.nonlinearity == "relu"


def heads_of(step: Step) -> int:
    """Return the number of equal parts of the recurrence, 1 for a step without heads."""
    return step.heads or 1


def units_of(step: Step | type[Step], weight_hh: Tensor) -> int:
    """Return H from W_hh, whose columns are fewer where there are heads.

    A matrix with fewer rows than gates is wrong, which the check of a call explains.
    """
    return weight_hh.shape[0] // len(step.gates) or weight_hh.shape[-1]


def fits(plan: Plan, step: Step) -> bool:
    """Return whether a plan still has the options of a step, which can be changed."""
    return plan.relu == has_relu(step) and plan.heads == heads_of(step)


def plan_of(direction: Direction) -> Plan:
    """Return the plan of a direction; it is made once."""
    found: Plan | None = direction.plans.get("cpu")
    if found is None or (found.has_options and not fits(found, direction.step)):
        hidden_size = units_of(direction.step, direction.weight_hh)
        found = make_plan(direction.step, direction.scheme, hidden_size)
        direction.plans["cpu"] = found
    return found


def inference_plan(direction: Direction) -> Plan:
    """Return the plan of a direction in inference.

    There a norm over all steps reads a table, as other norms of the batch do, so that it can be
    computed together with them.
    """
    scheme, own = direction.scheme, plan_of(direction)
    if scheme is None or scheme.input is None or not scheme.input.over_time or own.pooled:
        return own
    found: Plan | None = direction.plans.get("cpu in inference")
    if found is None or not fits(found, direction.step):
        by_table = replace(scheme, input=replace(scheme.input, kind="batch"))
        hidden_size = units_of(direction.step, direction.weight_hh)
        found = make_plan(direction.step, by_table, hidden_size)
        direction.plans["cpu in inference"] = found
    return found


def make_plan(
    step: Step,
    scheme: NormScheme | None,
    hidden_size: int,
    alone: bool = False,
) -> Plan:
    """Return the plan of a step with a scheme.

    Args:
        alone: true if the kernel computes the recurrence alone, without the term of the input.
    """
    norms = {} if scheme is None else dict(scheme.norms)
    if alone:
        norms = {site: norm for site, norm in norms.items() if site in WITHIN or site == "hidden"}
    spans = {} if scheme is None else step.spans(scheme)
    # A GRU's candidate, if it has a norm of its own, takes the place of an LSTM's c.
    of_candidate = "candidate" in spans
    c_site = "candidate" if of_candidate else "cell"
    if of_candidate:
        norms[c_site] = norms["sum"]
    h_site = "sum" if "sum" in norms else "hidden"
    of_rows = any(site in norms and not norms[site].over_batch for site in (h_site, c_site))
    hoisted = "input" in norms and norms["input"].over_batch and of_rows
    # A norm of the input without a kernel is computed before those of the recurrence.
    hoisted = hoisted or ("input" in norms and _without_kernel(norms["input"]) is not None)
    if "input" in norms and norms["input"].over_time:
        # A call with norms of a step's rows may be divided, but these statistics are of all rows.
        others = [norm for site, norm in norms.items() if site in (h_site, c_site)]
        hoisted = any(norm.over_batch for norm in others)
        hoisted = hoisted or norms["input"].eps_on != "var" or norms["input"].r_max is not None
    hoisted = hoisted or alone
    wanted = ("" if hoisted else "input", h_site, c_site)
    sites = tuple(site if site in norms else "" for site in wanted)
    inside = {site: norms[site] for site in sites if site}
    ends = {
        site: _ends(step, norm, spans.get(site, ""), hidden_size) for site, norm in inside.items()
    }
    pooled = not hoisted and "input" in norms and norms["input"].over_time
    apart = (c_site, "input") if pooled else (c_site,)  # over single units
    of_gates = {found for site, found in ends.items() if site not in apart}
    only_added = step.name != "GRU"
    of_x = "h" if only_added else "x"
    of_hh = _place(scheme, "bias_hh", "h")
    kinds = tuple(inside[site].kind if site else None for site in sites)
    return Plan(
        step=step,
        scheme=scheme,
        hidden_size=hidden_size,
        reason=_reason(scheme, norms, inside, ends, of_gates),
        sites=sites,  # type: ignore[arg-type]  # three, as wanted
        kinds=kinds,
        eps=tuple(inside[site].eps if site else 1.0 for site in sites),
        sets=(of_gates.pop() or ()) if of_gates else (len(step.gates),),
        batch="batch" in kinds,
        pooled=pooled,
        hoisted=hoisted,
        outside=hoisted or "frame" in norms or "output" in norms,
        joined=not of_candidate and (h_site == "sum" or (kinds[:2] == (None, None) and only_added)),
        places=(
            "" if hoisted else _place(scheme, "bias_ih", of_x),
            "h" if of_candidate and of_hh else of_hh,
            of_x,
            "x" if of_candidate else "h",
        ),
        has_options=isinstance(step, Nonlinear) or step.heads > 0,
        relu=has_relu(step),
        heads=heads_of(step),
        states=min(len(step.states), MOST),
        carried=(len(step.states) - 1) * hidden_size,
    )


def _ends(step: Step, norm: Norm, span: str, hidden_size: int) -> tuple[int, ...] | None:
    """Return the gate after the last of each set, or None if sets are not of whole gates."""
    ends = list(accumulate(norm.sizes(step.gates, span, hidden_size, step.heads)))
    if any(end % hidden_size for end in ends):
        return None
    return tuple(end // hidden_size for end in ends)


def _place(scheme: NormScheme | None, name: str, term: str) -> str:
    places = {"outside": term, "inside": "i", "both": "i" + term, None: ""}
    return places[NormScheme.place_of(scheme, name)]


def _without_kernel(norm: Norm) -> str | None:
    """Return the reason why no kernel computes a norm anywhere, or None."""
    if norm.kind not in KINDS:
        return f"it has no kernel for the norm {norm.kind!r}"
    if norm.reaches_back:
        return "it has no kernel for statistics of earlier steps (window)"
    return None if norm.part is None else "it has no kernel for a part of the units (part)"


def _reason(
    scheme: NormScheme | None,
    norms: dict[str, Norm],
    inside: dict[str, Norm],
    ends: dict[str, tuple[int, ...] | None],
    of_gates: set[tuple[int, ...] | None],
) -> str | None:
    if scheme is not None and scheme.bias_hh in ("inside", "both") and scheme.sum is None:
        return "it has no kernel with a bias of W_hh h before its norm"
    # A window outside of the recurrence would need the rows of each step, which a graph for all
    # lengths does not have.
    windows = [norm for norm in norms.values() if norm.reaches_back]
    for reason in map(_without_kernel, [*windows, *inside.values()]):
        if reason is not None:
            return reason
    if len({norm.over_batch for norm in inside.values() if not norm.over_time}) > 1:
        return "it has no kernel for norms of the batch and of a row together in the recurrence"
    for site, norm in inside.items():
        if norm.eps_on == "std" and (site != "cell" or norm.over_batch):
            return "it has no kernel with eps added to the standard deviation"
        if ends[site] is None:
            return f"it has no kernel for sets={norm.sets!r}"
    return "it has no kernel for different sets of x and h" if len(of_gates) > 1 else None
