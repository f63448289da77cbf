"""Principal component analysis: the estimator, and the eigenproblem of the covariance."""
