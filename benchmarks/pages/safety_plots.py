"""One picture of the safety experiments: off against on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INK, GREY, OFF, ON = "#1c2733", "#8894a0", "#d1495b", "#1f7a8c"


def draw(trails: dict[str, dict[str, Any]], rows: dict[str, Any], folder: Path) -> Path:
    """Write `experiments.png` into a folder and return its path.

    Args:
        trails: Of a scenario and "off" or "on", what the run left.
        rows: Of the same, its figures.
        folder: Made if it isn't there.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.edgecolor": GREY, "text.color": INK})
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4), constrained_layout=True)
    wall, speed, tank, energy = axes.ravel()

    for kind, colour in (("off", OFF), ("on", ON)):
        trail = trails["m4"][kind]
        wall.plot(trail.time, trail.force, color=colour, label=kind, lw=1.2)
        trail = trails["m1"][kind]
        speed.plot(trail.time, trail.speed, color=colour, label=kind, lw=1.0)
    wall.set(title="M4: force on a wall of 1e5 N/m", xlabel="time [s]", ylabel="force [N]")
    speed.set(title="M1: pumped in phase", xlabel="time [s]", ylabel="tool speed [m/s]")
    for name, style in (("m1", "-"), ("m4", "--"), ("m7", ":")):
        trail = trails[name]["on"]
        tank.plot(trail.time, trail.tank, color=ON, ls=style, lw=1.2, label=name.upper())
    tank.axhline(0.05, color=GREY, lw=0.8)
    tank.set(title="Energy tank with the chain on", xlabel="time [s]", ylabel="tank [J]", ylim=0)

    names = sorted(rows, key=lambda name: (int(name[1:].rstrip("b")), name))
    for at, (kind, colour) in enumerate((("off", OFF), ("on", ON))):
        shares = [max(0.004, rows[name][kind]["energy_vs_bound"]) for name in names]
        places = [i + 0.38 * (at - 0.5) for i in range(len(names))]
        energy.bar(places, shares, width=0.36, color=colour, label=kind)
    energy.axhline(1.0, color=INK, lw=0.9)
    energy.set_yscale("log")
    energy.set_xticks(range(len(names)), [name.upper() for name in names])
    energy.set(title="Energy taken out, of what is allowed", ylabel="measured / allowed")
    for axis in axes.ravel():
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(colors=INK)
        axis.legend(frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "experiments.png"
    figure.savefig(path, dpi=140)
    plt.close(figure)
    return path
