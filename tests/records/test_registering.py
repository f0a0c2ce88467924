from tests.records.world import World


async def test_a_complete_record_is_registered_with_level_number_and_event(world: World) -> None:
    answer = await world.post("/v1/records", world.custodian, world.body(importance="important"))
    assert answer.status_code == 201
    described = answer.json()
    assert (described["level"], described["information_class"], described["status"]) == ("secret", 2, "active")
    assert answer.headers["etag"] == '"1"'
    assert answer.headers["location"] == f"/v1/records/{described['id']}"
    [event] = await world.events()
    assert event["type"] == "records.v1.record.registered"
    assert event["data"]["record"] == described["id"] == event["subject"]
    assert event["person"] == str(world.custodian.person)
