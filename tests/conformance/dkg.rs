//! COCKTAIL-DKG, all intermediates of every record.
