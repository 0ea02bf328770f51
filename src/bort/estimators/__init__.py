"""scikit-learn's face: `BortClassifier` and `BortRegressor`."""
