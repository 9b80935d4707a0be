"""What a model may be built of, drawn by hypothesis: levels, map and heads."""

from typing import NamedTuple, Tuple

from hypothesis import strategies as st

from ssn_train.network.design import Design


class Built(NamedTuple):
    """``channels`` and ``sizes`` (height, width) of the levels, and the design around them."""

    channels: Tuple[int, ...]
    sizes: Tuple[Tuple[int, int], ...]
    shape: Design


@st.composite
def builts(draw, smallest=2):
    """Two or three levels, each as fine as the one before it or half as fine; the map a multiple of the first
    or any size, coarser and finer; a classification head or none."""
    sizes = [draw(st.tuples(st.integers(smallest, 11), st.integers(smallest, 11)))]
    channels = [draw(st.integers(1, 4))]
    for _ in range(draw(st.integers(1, 2))):
        step = draw(st.integers(1, 2))
        sizes.append(tuple(-(-n // step) for n in sizes[-1]))  # ceil: 15 -> 8
        channels.append(draw(st.integers(1, 5)))
    side = st.integers(4, 17)
    grid, scale = draw(st.tuples(st.none(), st.integers(1, 3)) | st.tuples(st.tuples(side, side), st.just(2)))
    shape = Design(
        tuple(f"level{n}" for n in range(len(sizes))), grid, scale, draw(st.sampled_from([7, 32, 1024])),
        draw(st.sampled_from([0, 3, 128])), draw(st.sampled_from([1, 3, 5])),
    )
    return Built(tuple(channels), tuple(sizes), shape)
