"""Rules on arrays: evaluate predicates, and count the rows that trees and rules match."""
