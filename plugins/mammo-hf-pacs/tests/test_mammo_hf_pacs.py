import pytest
from mammo_hf_pacs import capture, seg, sr

from mammo_hf.testing import check_output


@pytest.mark.parametrize("output", [sr, seg, capture])
def test_keeps_the_contract(output):
    check_output(output)
