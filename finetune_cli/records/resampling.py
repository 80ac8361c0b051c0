"""How rows are drawn again and again to see how far a score could be off."""

from __future__ import annotations

from dataclasses import dataclass, replace

USUAL_SAMPLES = 1000


@dataclass(frozen=True)
class Resampling:
    """samples: draws; 0: no intervals. level: how often an interval is to hold the true score. The same seed, the same
    draws."""

    samples: int = USUAL_SAMPLES
    level: float = 0.95
    seed: int = 0

    @property
    def to_compare(self) -> Resampling:
        """Where several runs are compared, which cannot do without draws, whatever single scores do."""
        return self if self.samples else replace(self, samples=USUAL_SAMPLES)


NO_INTERVALS = Resampling(samples=0)
