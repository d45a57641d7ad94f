"""Lists the demo's eight evaluations and how each should end."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One evaluation; `options` are inspect's task options that decide how it ends."""

    run: str
    task: str
    epoch: int
    time_limit: str = "00:05:00"
    adapter: str | None = None
    options: tuple[str, ...] = ()
    state: str = "COMPLETED"
    verdict: str = "ok"

    @property
    def name(self) -> str:
        """Its name in evalmon."""
        return f"{self.run}/{self.task}/epoch{self.epoch}"

    @property
    def directory(self) -> str:
        """The place of its cell.slurm below the experiment."""
        return f"{self.run}/eval/{self.task}_epoch{self.epoch}"

    @property
    def adapter_directory(self) -> str:
        """The place of its fine-tuned weights below the experiment."""
        return self.adapter or f"{self.run}/epoch_{self.epoch}"


# Accuracy of the mock model after each epoch of "training"; epoch 9 was never trained.
TRAINED = {
    "r8_lr1e-5/epoch_0": 0.6,
    "r8_lr1e-5/epoch_1": 0.8,
    "r16_lr1e-5/epoch_0": 0.7,
    "r16_lr1e-5/epoch_1": 0.95,
}

# In the order of submission. The unsuccessful ones come first, so that nothing waits for them in the end.
CELLS = (
    # Its weights are missing: inspect exits non-zero.
    Cell("r8_lr1e-5", "arithmetic", 0, adapter="r8_lr1e-5/epoch_9", state="FAILED", verdict="failed"),
    # The model fails at the fourth sample: inspect logs an error and still exits with 0.
    Cell("r8_lr1e-5", "arithmetic", 1, options=("crash_at=4",), verdict="suspect"),
    Cell("r8_lr1e-5", "capitalization", 0),
    # Twenty seconds a sample, and Slurm ends it after one minute, its shortest limit.
    Cell(
        "r8_lr1e-5",
        "capitalization",
        1,
        time_limit="00:01:00",
        options=("pace_s=20",),
        state="TIMEOUT",
        verdict="failed",
    ),
    Cell("r16_lr1e-5", "arithmetic", 0),
    Cell("r16_lr1e-5", "arithmetic", 1),
    Cell("r16_lr1e-5", "capitalization", 0),
    Cell("r16_lr1e-5", "capitalization", 1),
)
