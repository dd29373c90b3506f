"""Where does a model fail, and what have the data to do with it? The plots and tables of a notebook."""
