"""A page in the browser: an exam as radiologists hang it, its scores, and where the model looked (extra ``app``)."""
