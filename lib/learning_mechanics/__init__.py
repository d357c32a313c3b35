"""Helper package of *Learning Mechanics*, a map of its modules.

Each module is one noun of the field and can be read in one sitting.

==================  =====================================================
``runtime``         where and how large: device, scale, seeds, progress
``data``            real data: digits, photographs, MNIST, Fashion-MNIST
``tasks``           synthetic tasks whose answer is known
``networks``        deep linear networks and multilayer perceptrons
``training``        one visible gradient-descent loop that returns a record
``ensembles``       many networks trained in one batched call
``sweeps``          grids of runs over joblib, resumed after a kill
``flows``           exact solutions of the training dynamics
``kernels``         kernels of infinitely wide networks, and regression
``spectra``         learning curves, random matrices, power-law fits
``curvature``       Hessian products, top eigenpairs, tracked sharpness
``measurement``     what is read off a trained network
``predictions``     the ledger: declare, test, break, collect
``figures``         one look for every figure, with alternative text
==================  =====================================================

Theory and experiment share no code: ``flows`` never trains a network, and
``training`` knows no theory. Import the modules, not their contents:

>>> from learning_mechanics import flows
>>> round(flows.half_rise_time(strength=2.0, start=0.02), 3)
1.149
"""
