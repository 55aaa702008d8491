"""``seqnorm sweep``: search for better options, by runs of ``fit`` that Optuna plans."""
