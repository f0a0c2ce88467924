import asyncio

from dossier_common.clock import set_within


async def test_a_waiting_relay_ends_when_it_is_cancelled_as_it_is_woken() -> None:
    woken = asyncio.Event()

    async def wait_again_and_again() -> None:
        while True:
            woken.clear()
            await set_within(woken, 60)

    waiting = asyncio.create_task(wait_again_and_again())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    woken.set()
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting], timeout=5)
    assert waiting.cancelled()
