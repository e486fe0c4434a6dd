"""Pictures of what has been learned, for TensorBoard's tab IMAGES."""

import time

from rlgrad.errors import RunError, say
from rlgrad.loop import Update
from rlgrad.run.following import Following
from rlgrad.run.observer import Observer, Record

SHARE = 0.1  # the largest share of a run's time for pictures


class Pictures(Observer):
    """Adds the problem's pictures to the record, every `pictures_every_updates` and after the last update."""

    def begin(self, run: Following) -> None:
        self.due, self.possible = True, True
        self.made, self.cost = -float("inf"), 0.0  # when the last pictures were made, and the seconds they took

    def seen(self, run: Following, update: Update, record: Record) -> None:
        every = run.settings.pictures_every_updates
        if every is None or not self.possible:
            return
        self.due |= run.state.done % every == 0
        if not run.over and not (self.due and time.monotonic() - self.made >= self.cost / SHARE):
            return
        began = time.monotonic()
        try:
            record.pictures |= run.attempt(run.problem.pictures)
        except RunError as error:
            say(f"there will be no pictures: {error}")
            self.possible = False
        self.due, self.made = False, time.monotonic()
        self.cost = self.made - began
