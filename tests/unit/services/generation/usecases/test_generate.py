"""What a caller sees of a generation, and what is left of it afterwards; the engine here is the scripted one."""

from pathlib import Path

import pytest

from services.chassis.errors import InvalidInput, NotFound, Overloaded, Unavailable
from services.generation.domain import Finish, Sampling, Started, Step
from tests.generation_parts import ANNA, running

QUESTION = "say one two three four five six"


async def test_a_stream_tells_first_what_it_is_and_last_why_it_ended(tmp_path: Path) -> None:
    async with running(tmp_path, "mode=echo") as room:
        events = [it async for it in room.generate(caller=ANNA, model="", prompt=QUESTION, sampling=Sampling())]
        assert isinstance(events[0], Started)
        assert events[0].model == "base"
        steps = [it for it in events if isinstance(it, Step)]
        assert "".join(step.text for step in steps).strip() == QUESTION
        assert [step.finish for step in steps][-1] is Finish.STOP
        assert room.value("brain_tokens_total", model="base", kind="prompt") == events[0].prompt_tokens
        assert room.value("brain_generation_finished_total", reason="stop") == 1


async def test_an_engine_that_dies_ends_every_continuation_before_the_error(tmp_path: Path) -> None:
    async with running(tmp_path, "mode=echo&die_after=4") as room:
        ends: dict[int, Finish] = {}
        with pytest.raises(Unavailable):
            async for event in room.generate(caller=ANNA, model="", prompt=QUESTION, sampling=Sampling(n=2)):
                if isinstance(event, Step) and event.finish is not None:
                    ends[event.index] = event.finish
        assert ends == {0: Finish.ERROR, 1: Finish.ERROR}
        assert room.admission.inflight == 0
        assert room.value("brain_generation_finished_total", reason="error") == 2


async def test_a_caller_that_leaves_frees_its_places(tmp_path: Path) -> None:
    async with running(tmp_path, "mode=echo") as room:
        stream = room.generate(caller=ANNA, model="", prompt=QUESTION, sampling=Sampling(n=3))
        async for event in stream:
            if isinstance(event, Step):
                break
        assert room.admission.inflight == 3
        with pytest.raises(Overloaded) as caught:
            await anext(room.generate(caller=ANNA, model="", prompt=QUESTION, sampling=Sampling(n=2)))
        assert caught.value.retry_after_s
        await stream.aclose()
        assert room.admission.inflight == 0
        assert room.value("brain_generation_finished_total", reason="cancelled") == 3
        assert room.value("brain_generation_refused_total") == 1


async def test_what_is_refused_takes_no_place(tmp_path: Path) -> None:
    async with running(tmp_path, "mode=echo&window=16") as room:
        with pytest.raises(NotFound):
            await anext(room.generate(caller=ANNA, model="nobody", prompt=QUESTION, sampling=Sampling()))
        with pytest.raises(InvalidInput, match="window of 16"):
            await anext(room.generate(caller=ANNA, model="", prompt="word " * 16, sampling=Sampling()))
        with pytest.raises(NotFound):
            await room.count.tokenize(caller=ANNA, model="nobody", texts=["a"], conversation=None)
        assert room.admission.inflight == 0


async def test_of_several_continuations_one_that_is_too_long_is_told_as_such(tmp_path: Path) -> None:
    async with running(tmp_path, "mode=echo&window=16") as room:
        with pytest.raises(InvalidInput, match="continuations") as caught:
            await room.score(caller=ANNA, model="", prompt=QUESTION, continuations=[" seven", " word" * 40, " eight"])
        assert caught.value.param == "continuations"
        assert room.admission.inflight == 0
        scores = await room.score(caller=ANNA, model="", prompt=QUESTION, continuations=[" seven", " eight nine"])
        assert [len(score.token_logprobs) for score in scores] == [1, 2]
