"""scikit-learn estimators: `BortClassifier` and `BortRegressor`."""
