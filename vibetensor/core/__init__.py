"""The tensor: types, geometry, storage, views, iteration, dispatch, random numbers, interchange.

Each module imports only those before it: types, errors, dtype, device, geometry, tensor, views,
iterator, dispatch. Nothing is imported here.
"""
