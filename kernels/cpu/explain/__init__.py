"""Binning of columns, predicates, and the trees and rules built on them."""
