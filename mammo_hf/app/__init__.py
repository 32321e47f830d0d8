"""A page in the browser: an exam in the usual display order, its scores, and where the model looked (extra ``app``)."""
