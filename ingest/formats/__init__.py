"""The sources that `botify data import` reads: a module for each family of published layouts."""
