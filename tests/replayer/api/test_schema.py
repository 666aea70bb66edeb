"""schemathesis over the whole description: what it allows is answered as it says, what it forbids is refused, and nothing breaks."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.tokens import Role
from hooktape.replayer.api.routes import ROUTES
from hooktape.replayer.catalogue import Cataloguer
from hooktape.settings import Settings
from tests.replayer.api.conftest import Served
from tests.replayer.kit import bury, event, narrowed, record, settle


@pytest.fixture(scope="module")
def api(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    """A server that wants tokens, over a tape with something of everything, and a token that may do all."""
    home = tmp_path_factory.mktemp("api")
    settings = narrowed(Settings(kafka=kafka, topic_prefix=f"t{home.name}{id(home):x}", partitions=2, home=home))
    events = [event(n) for n in range(12)]
    record(settings, events)
    with Ledger.open(settings.ledger_url) as ledger:
        settle(ledger, events[:5], State.SUCCEEDED)
        bury(settings, ledger, events[5:8])
        with Cataloguer(settings, ledger) as cataloguer:
            cataloguer.catch_up()
        token = ledger.tokens.create("tester", Role.OPERATE, who="test", now=1.0)
    with Served(settings, "0.0.0.0") as server:
        yield server, token


@pytest.mark.timeout(300)  # a request or more for each of some hundred cases, on a machine that does other things too
def test_the_api_does_what_its_description_says(api: tuple[Served, str]):
    server, token = api
    origin = server.origin.replace("0.0.0.0", "127.0.0.1")
    schema = schemathesis.openapi.from_url(f"{origin}/api/v1/openapi.json")
    schema.config.update(base_url=origin)
    # 422 is for what the description forbids; 400 for what it can't: an end before its beginning, a status without its group.
    schema.config.checks.positive_data_acceptance.expected_statuses.append("400")
    schema.config.update(headers={"Authorization": f"Bearer {token}"})
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == len(ROUTES)
    # A few every time; twenty-five of each for each route, at random, were clean when the API was made.
    for mode, examples in ((GenerationMode.POSITIVE, 2), (GenerationMode.NEGATIVE, 1)):
        for operation in operations:
            with suppress(Unsatisfiable):  # a route without parameters has nothing that could be wrong
                _run(operation.as_strategy(generation_mode=mode), examples)


def _run(strategy: st.SearchStrategy, examples: int) -> None:
    @hypothesis_settings(max_examples=examples, database=None, derandomize=True, suppress_health_check=list(HealthCheck),
                         phases=[Phase.explicit, Phase.generate])
    @given(case=strategy)
    def run(case: schemathesis.Case) -> None:
        case.call_and_validate(timeout=40)

    run()
