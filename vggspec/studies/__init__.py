"""What is measured with nets: evaluation, localisation, features, agreement."""
