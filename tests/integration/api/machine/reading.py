"""Reads of every kind, compared with one another and with what was shown before."""

from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.integration.api.machine.comparing import Comparing, code_of

NOWHERE: Final = "00000000-0000-4000-8000-000000000000"


class Reading(Comparing):
    """What users look at."""

    @rule(what=st.integers(0, 3), at=st.integers(0, 100))
    def something_is_read(self, what: int, at: int) -> None:
        match what:
            case 0:
                self.what_was_shown_is_shown_again(at)
            case 1:
                self.lists_have_it_where_it_belongs()
            case 2 if not self.model.is_deleted:
                self.parts_are_as_the_whole()
                self.the_history_has_no_gap(limit=at // 2 + 3)
            case _:
                self.nothing_is_found_by_ids_of_nothing()

    def what_was_shown_is_shown_again(self, at: int) -> None:
        stamp, content = self.past[at % len(self.past)]
        response = self.send("GET", self.path, params={"at": stamp})
        if self.model.is_deleted:
            assert code_of(response, 404) == "ORCHESTRATION_NOT_FOUND"
        else:
            assert (response.content, response.headers["X-As-Of"]) == (content, stamp)

    def lists_have_it_where_it_belongs(self) -> None:
        for status in ("ACTIVE", self.model.status):
            listed = self.send("GET", "/api/orchestrations", params={"tag": self.tag, "status": status}).json()
            ids = [item["id"] for item in listed["items"]]
            belongs = status == self.model.status and not self.model.is_deleted
            assert ids == ([self.id] if belongs else [])

    def parts_are_as_the_whole(self) -> None:
        stamp, _ = self.past[-1]
        at = {"at": stamp}
        assert self.send("GET", f"{self.path}/tasks", params=at).json()["items"] == self.shown["tasks"]
        counts = self.send("GET", f"{self.path}/stats", params=at).json()
        assert {name: counts[name] for name in self.shown["statistics"]} == self.shown["statistics"]
        for task in self.shown["tasks"]:
            assert self.send("GET", f"/api/tasks/{task['id']}").json() == task
        for agent in self.agents():
            known = self.send("GET", f"/api/cloud-agents/{agent}").json()
            for job, tried in filter(None, [self.model.of_agent(agent)]):
                assert (known["task_id"], known["attempt_number"]) == (job.id, tried.number)

    def the_history_has_no_gap(self, limit: int) -> None:
        versions: list[int] = []
        after: dict[str, Any] = {}
        while True:
            page = self.send("GET", f"{self.path}/events", params={"limit": limit, **after}).json()
            versions += [item["version"] for item in page["items"]]
            if "nextCursor" not in page:
                break
            after = {"cursor": page["nextCursor"]}
        assert versions == list(range(1, self.shown["orchestration"]["version"] + 1))

    def nothing_is_found_by_ids_of_nothing(self) -> None:
        assert code_of(self.send("POST", f"/api/orchestrations/{NOWHERE}/activate"), 404) == "ORCHESTRATION_NOT_FOUND"
        assert code_of(self.send("POST", f"/api/tasks/{NOWHERE}/skip"), 404) == "TASK_NOT_FOUND"
        assert code_of(self.send("POST", f"/api/cloud-agents/bc-{NOWHERE}/stop"), 404) == "AGENT_NOT_FOUND"
