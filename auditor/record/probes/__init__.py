"""One file for each thing that is watched; `arm` installs them."""
