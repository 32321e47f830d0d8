import mammo_hf_input_gradient

from mammo_hf.testing import check_explainer


def test_keeps_the_contract():
    check_explainer(mammo_hf_input_gradient)
