"""`/v1/fine_tuning`: jobs, their events and checkpoints, graders."""

from typing import Final

import orjson

from gateway.api.bodies import called
from gateway.api.call import Call
from gateway.api.openai import tuning_views as views
from gateway.api.openai.tuning_requests import (
    CheckpointsQuery,
    EventsQuery,
    GraderBody,
    GraderRunBody,
    JobBody,
    JobsQuery,
)
from gateway.api.openai.views import listed
from gateway.api.replies import Reply, json_reply
from gateway.api.routing import Body, Route
from gateway.api.training import new_job
from gateway.domain.keeping import Paging
from gateway.domain.tuning import Job
from gateway.ports import Graders, Jobs
from services.chassis.errors import Unsupported

__all__ = ["FineTuningRoutes"]

_JOBS: Final = "/v1/fine_tuning/jobs"
_JOB: Final = f"{_JOBS}/{{job_id}}"
_GRADERS: Final = "/v1/fine_tuning/alpha/graders"


class FineTuningRoutes:
    """Trains, and grades answers.

    Args:
        jobs: Training jobs.
        graders: Graders.
    """

    def __init__(self, *, jobs: Jobs, graders: Graders) -> None:
        self._jobs = jobs
        self._graders = graders

    def routes(self) -> list[Route]:
        """Return the routes."""
        body = Body.JSON
        return [
            Route("POST", _JOBS, self.create, "Create a training job", body=body, request=JobBody, creates=True),
            Route("GET", _JOBS, self.list, "List training jobs, newest first", query=JobsQuery),
            Route("GET", _JOB, self.get, "Describe a training job"),
            Route("POST", f"{_JOB}/cancel", self.cancel, "End a training job"),
            Route("POST", f"{_JOB}/pause", self.pause, "Stop a training job at its next checkpoint"),
            Route("POST", f"{_JOB}/resume", self.resume, "Go on from a training job's last checkpoint"),
            Route("GET", f"{_JOB}/events", self.events, "List a job's events, newest first", query=EventsQuery),
            Route(
                "GET",
                f"{_JOB}/checkpoints",
                self.checkpoints,
                "List a job's checkpoints, newest first",
                query=CheckpointsQuery,
            ),
            Route(
                "POST",
                "/v1/fine_tuning/checkpoints/{checkpoint:path}/permissions",
                self.permissions,
                "Not offered: the audience of an adapter follows from what it was trained on",
            ),
            Route(
                "POST",
                f"{_GRADERS}/run",
                self.run_grader,
                "Grade an answer",
                body=body,
                request=GraderRunBody,
                only_reads=True,
            ),
            Route(
                "POST",
                f"{_GRADERS}/validate",
                self.validate_grader,
                "Check a grader",
                body=body,
                request=GraderBody,
                only_reads=True,
            ),
        ]

    async def create(self, call: Call) -> Reply:
        """Create a job; its files are checked before it is queued."""
        body = await call.parse(JobBody)
        is_theirs = body.method is not None and body.method.reinforcement is not None
        with called("grader", "method.reinforcement.grader" if is_theirs else "brain.grader"):
            made = await self._jobs.create(new_job(body))
        call.touched(made.id)
        return self._reply(call, made)

    async def list(self, call: Call) -> Reply:
        """List the tenant's jobs."""
        query = call.query(JobsQuery)
        page = await self._jobs.list(
            Paging(query.limit, query.after), metadata=query.metadata, without_metadata=query.metadata is None
        )
        return json_reply(listed(page, lambda one: views.job(one, tenant=call.caller.tenant)))

    async def get(self, call: Call) -> Reply:
        """Describe a job."""
        return self._reply(call, await self._jobs.get(call.path["job_id"]))

    async def cancel(self, call: Call) -> Reply:
        """End a job."""
        return self._reply(call, await self._jobs.cancel(call.path["job_id"]))

    async def pause(self, call: Call) -> Reply:
        """Stop a job at its next checkpoint."""
        return self._reply(call, await self._jobs.pause(call.path["job_id"]))

    async def resume(self, call: Call) -> Reply:
        """Go on from the last checkpoint."""
        return self._reply(call, await self._jobs.resume(call.path["job_id"]))

    async def events(self, call: Call) -> Reply:
        """List a job's events."""
        query = call.query(EventsQuery)
        page = await self._jobs.events(call.path["job_id"], Paging(query.limit, query.after))
        return json_reply(listed(page, views.event))

    async def checkpoints(self, call: Call) -> Reply:
        """List a job's checkpoints."""
        query = call.query(CheckpointsQuery)
        page = await self._jobs.checkpoints(call.path["job_id"], Paging(query.limit, query.after))
        return json_reply(listed(page, views.checkpoint))

    async def permissions(self, call: Call) -> Reply:
        """Refuse: nobody can be given more than an adapter's documents allow."""
        raise Unsupported(
            "Checkpoints are not shared with other projects: who may ask an adapter follows from the access lists of "
            "the documents that it was trained on.",
            param="checkpoint",
        )

    async def run_grader(self, call: Call) -> Reply:
        """Grade an answer."""
        body = await call.parse(GraderRunBody)
        grade = await self._graders.run(
            orjson.dumps(body.grader).decode(),
            sample=body.model_sample,
            item_json=orjson.dumps(body.item or {}).decode(),
        )
        metadata = orjson.loads(grade.metadata_json or "{}")
        return json_reply(
            {
                "reward": grade.reward,
                "sub_rewards": dict(grade.sub_rewards),
                # OpenAI has it beside the metadata.
                "model_grader_token_usage_per_model": metadata.pop("model_grader_token_usage_per_model", {}),
                "metadata": metadata,
            }
        )

    async def validate_grader(self, call: Call) -> Reply:
        """Check a grader."""
        body = await call.parse(GraderBody)
        grader = await self._graders.validate(orjson.dumps(body.grader).decode())
        return json_reply({"grader": orjson.loads(grader)})

    def _reply(self, call: Call, one: Job) -> Reply:
        return json_reply(views.job(one, tenant=call.caller.tenant))
