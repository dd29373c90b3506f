"""What a dataset holds, before a model sees it: tables, plots and pictures for the notebook."""
