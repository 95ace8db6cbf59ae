from services.finetuning.usecases.settling import AwaitEngine
from tests.unit.services.finetuning.conftest import Engine


async def test_all_adapters_of_a_publication_are_waited_for() -> None:
    engine = Engine(slow=2)
    assert await AwaitEngine(serving=engine, patience_s=30)(["ft:one", "ft:one:ckpt-step-1"]) == ""
    assert (engine.asked.count("ft:one"), engine.asked.count("ft:one:ckpt-step-1")) == (3, 3)


async def test_what_the_engine_refuses_is_not_waited_for() -> None:
    engine = Engine(refuses="With it the model answers exactly as without it.")
    assert await AwaitEngine(serving=engine, patience_s=3600)(["ft:one"]) == engine.refuses


async def test_an_engine_that_is_away_or_slow_is_waited_for_no_longer_than_allowed() -> None:
    away, slow = Engine(away=True), Engine(slow=1_000_000)
    assert await AwaitEngine(serving=away, patience_s=0.2)(["ft:one"]) == "The engine is away."
    assert "ft:one is not loaded" in await AwaitEngine(serving=slow, patience_s=0.2)(["ft:one"])
    # It was looked for again and again.
    assert min(len(away.asked), len(slow.asked)) > 1


async def test_an_engine_that_comes_back_is_heard() -> None:
    class Returning(Engine):
        async def serves(self, name: str) -> bool:
            self.away = not self.asked
            return await super().serves(name)

    assert await AwaitEngine(serving=Returning(), patience_s=30)(["ft:one"]) == ""


async def test_an_alias_is_waited_for_until_it_leads_where_it_was_moved() -> None:
    engine = Engine(slow=2, aliases={"support": "ft:new"})
    wait = AwaitEngine(serving=engine, alias_patience_s=30)
    assert await wait.alias("support", "ft:new")
    assert len(engine.asked) == 3
    assert not await AwaitEngine(serving=engine, alias_patience_s=0.2).alias("support", "ft:other")
    engine.away = True
    assert not await AwaitEngine(serving=engine, alias_patience_s=3600).alias("support", "ft:new")
