"""Explainers by captum (Kokhlikyan et al. 2020, arXiv 2009.07896) for mammo_hf; each module is one."""
