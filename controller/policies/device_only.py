"""Everything on the phone itself: nothing is offloaded, whatever happens."""

from controller.policies.rival import Rival, Scene
from controller.table import Row


class DeviceOnly(Rival):
    rule = "all on the phone"

    def row(self, scene: Scene) -> Row | None:
        row = (scene.source,) * scene.blocks
        return row if scene.worth_us(row) < float("inf") else None
