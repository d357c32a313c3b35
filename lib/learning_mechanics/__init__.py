"""Helper package of *Learning Mechanics*, a map of its modules.

Each module is one noun of the field and can be read in one sitting.

=====================  ======================================================
``runtime``            where and how large: device, scale, seeds, progress
``data``               real data: digits, photographs, MNIST, Fashion-MNIST
``tasks``              synthetic tasks whose answer is known
``networks``           deep linear networks and multilayer perceptrons
``parametrizations``   standard, NTK and maximal-update scaling with width
``architectures``      convolutional and residual networks, transformers
``training``           one visible gradient-descent loop that returns a record
``ensembles``          many networks trained in one batched call
``sweeps``             grids of runs over joblib, resumed after a kill
``flows``              exact solutions of the training dynamics
``central_flow``       averaged gradient descent at the edge of stability
``kernels``            kernels of infinitely wide networks, and a few others
``kernel_regression``  fit, leave-one-out error, exact gradient flow
``linearization``      tangent kernels of given networks, linear models
``spectra``            learning curves of kernel regression
``random_matrices``    Marchenko-Pastur, and the transitions of spikes
``power_laws``         fits with intervals, and a test of the window
``curvature``          Hessian and Gauss-Newton matrices, by their products
``lanczos``            top eigenpairs and spectral density of such matrices
``sharpness``          the largest eigenvalue, tracked through training
``measurement``        what is read off a trained network
``similarity``         two representations compared, and with chance
``predictions``        the ledger: declare, test, break, sum up
``records``            what predictions came to, as notebooks store it
``results``            the same under fresh seeds and at full scale
``scoreboard``         all that is stored of a chapter, in one table
``figures``            one look for every figure, with alternative text
``explorables``        figures moved by a slider, without a kernel or with one
=====================  ======================================================

Theory and experiment share no code: ``flows`` never trains a network, and
``training`` knows no theory. Import the modules, not their contents:

>>> from learning_mechanics import flows
>>> round(flows.half_rise_time(strength=2.0, start=0.02), 3)
1.149
"""
