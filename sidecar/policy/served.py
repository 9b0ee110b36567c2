"""Which workspaces are served, from which files, and what stands in whose way (rule 1). Pure.

Law: no two of them contradict each other. Whoever puts one here has asked `contradictions` first; of a broken workspace only
what takes nothing from anybody is put here.
"""

from msgspec import structs

from sidecar.errors import Problem
from sidecar.policy.compiled import Route, Workspace
from sidecar.policy.routes import Routes, conflicts


class Served:
    def __init__(self) -> None:
        self.by_file: dict[str, Workspace] = {}
        self.owners: dict[str, str] = {}
        """Workspace name -> the file that serves it."""
        self.workspaces: dict[str, Workspace] = {}
        self.routes = Routes()

    def put(self, file: str, workspace: Workspace | None) -> None:
        """Exchange what a file serves."""
        active = self.by_file.pop(file, None)
        if active is not None:
            self.routes = self.routes.removing(active.routes)
            del self.workspaces[active.name], self.owners[active.name]
        if workspace is not None:
            self.by_file[file] = workspace
            self.routes = self.routes.adding(workspace.routes)
            self.workspaces[workspace.name] = workspace
            self.owners[workspace.name] = file

    def contradictions(self, file: str, workspace: Workspace) -> tuple[Problem, ...]:
        """What keeps a workspace that isn't served yet from standing beside the others, told where it is written."""
        owner = self.owners.get(workspace.name)
        if owner is not None:
            return (Problem(file, 1, "$.workspace", f"the workspace {workspace.name!r} is in {owner} already"),)
        return tuple(
            Problem(file, found.route.line, f"$.routes[{workspace.routes.index(found.route)}]", found.message)
            for found in conflicts(workspace, self.routes, self.workspaces)
        )

    def in_the_way(self, workspace: Workspace) -> set[str]:
        """The files that a workspace which isn't served yet contradicts."""
        found = {conflict.other for conflict in conflicts(workspace, self.routes, self.workspaces)}
        found.update({workspace.name} & self.owners.keys())
        return {self.owners[name] for name in found}

    def without_contradictions(self, bad: Workspace | None) -> Workspace | None:
        """What of a workspace may be served broken, with refusals alone, without taking anything from others."""
        if bad is None or bad.name in self.owners:
            return None
        found = conflicts(bad, self.routes, self.workspaces)
        over_path = {conflict.route.path for conflict in found if conflict.over_path}
        over_keys = {conflict.route.path for conflict in found}
        kept: list[Route] = []
        for route in bad.routes:
            if route.path in over_keys - over_path:
                kept.append(structs.replace(route, upstream=f"none for {bad.name}"))
            elif route.path not in over_path:
                kept.append(route)
        return structs.replace(broken(bad), routes=tuple(kept))


def broken(workspace: Workspace) -> Workspace:
    """Its routes, all of them refused."""
    return structs.replace(workspace, broken=True, rules=(), cases=())
