"""What `sdk/tests/test_client.py` says of clients holds for one that is elsewhere."""

from __future__ import annotations

from sdk.tests import test_client as same
from tests.elsewhere.same import same_as

_OBJECTS = "it hands a function over that only this process has"
_HERE = "it makes a kernel or a client of its own in this process"

globals().update(
    same_as(
        same,
        {
            "test_call_raises_what_the_function_raised": _OBJECTS,
            "test_map_keeps_the_order": _OBJECTS,
            "test_abandoned_map_cancels_the_rest": _OBJECTS,
            "test_a_task_may_use_the_client": _OBJECTS,
            "test_a_result_may_be_waited_for_twice": _OBJECTS,
            "test_closing_the_client_cancels_its_tasks": _HERE,
            "test_closing_the_client_leaves_the_kernel": _HERE,
            "test_an_address_where_nobody_answers": _HERE,
            "test_addresses_that_are_none": _HERE,
            "test_an_address_is_enough": _HERE,
            "test_an_address_needs_more_packages": _HERE,
            "test_a_token_needs_an_address": _HERE,
            "test_settings_are_for_the_default_kernel": _HERE,
            "test_running_needs_no_right_to_look": _HERE,
        },
    )
)
