"""Plots, by matplotlib, as pictures: uint8 [H, W, 3]."""

from collections.abc import Sequence

import numpy as np

BINS = 60
PANEL_IN = (4.2, 3.2)  # inches, of 100 px
LEGEND = 20  # classes that are named, and have a colour each


def _figure(rows, columns):
    from matplotlib.figure import Figure  # not above: what needs no plots need not have it

    figure = Figure((columns * PANEL_IN[0], rows * PANEL_IN[1]), dpi=100, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _picture(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def histograms(panels: dict[str, dict[str, np.ndarray]]) -> np.ndarray:
    """A panel for each title, with the distribution of each of its groups: {title: {group: [N]}}."""
    figure, axes = _figure(1, len(panels))
    for axis, (title, groups) in zip(axes[0], panels.items(), strict=True):
        bins = np.histogram_bin_edges(np.concatenate(list(groups.values())), BINS)
        for name, values in groups.items():
            axis.hist(values, bins, density=True, alpha=0.5, label=name)
        axis.set_title(title)
        axis.set_yticks([])
        axis.legend(loc="upper right")  # "best" takes long, and warns of it, on a slow machine
    return _picture(figure)


def scatters(points: dict[str, np.ndarray], labels: dict[str, tuple[np.ndarray, Sequence[str]]]) -> np.ndarray:
    """A row of panels for each way of laying points out, a column for each way of colouring them.

    Args:
      points: {way: [N, 2]}.
      labels: {attribute: (int [N], names of its classes)}; up to 20 classes are named.
    """
    from matplotlib import colormaps

    figure, axes = _figure(len(points), len(labels))
    for row, (way, places) in zip(axes, points.items(), strict=True):
        for axis, (attribute, (numbers, names)) in zip(row, labels.items(), strict=True):
            axis.set_title(f"{way}: {attribute}")
            axis.set_xticks([])
            axis.set_yticks([])
            if len(names) > LEGEND:
                axis.scatter(*places.T, s=6, c=numbers, cmap="turbo")
                continue
            palette = colormaps["tab10" if len(names) <= 10 else "tab20"]
            for number in np.unique(numbers):
                axis.scatter(*places[numbers == number].T, s=6, color=palette.colors[number], label=names[number])
            axis.legend(loc="upper right", fontsize=6, markerscale=2)
    return _picture(figure)
