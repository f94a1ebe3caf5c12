#!/opt/no/such/interpreter
echo never
