"""Messages that cross a process border. The modules here are generated from the .proto files beside them:

python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. nodes/proto/*.proto
"""
